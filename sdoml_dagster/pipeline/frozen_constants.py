"""The current normalization constants, which are written once and then kept."""

from sdoml_core.errors import MissingInputError
from sdoml_core.normalization.constants import Normalization, from_json
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def freeze(store: Store, normalization: Normalization, *, replace: bool) -> Normalization:
    """Set the current constants, and return the constants that are current afterward.

    Without ``replace``, existing constants are kept, so the first of several runs wins.
    """
    data = normalization.to_json()
    store.write(layout.normalization(normalization.version), data)
    if replace:
        store.write(layout.CURRENT_NORMALIZATION, data)
    elif not store.create(layout.CURRENT_NORMALIZATION, data):
        return from_json(store.read(layout.CURRENT_NORMALIZATION))
    return normalization


def current_normalization(store: Store) -> Normalization | None:
    """Return the current constants, or ``None`` if none have been fitted yet."""
    return store.read_as(
        layout.CURRENT_NORMALIZATION, from_json, made_by="only normalization_stats"
    )


def needed_normalization(store: Store) -> Normalization:
    """Return the current constants, which must exist.

    Raises
    ------
    MissingInputError
        If there are no constants.
    """
    constants = current_normalization(store) or refuse_unasked_fit(store)
    if constants is None:
        raise MissingInputError(
            f"{store.locate(layout.CURRENT_NORMALIZATION)} is missing: "
            "run fit_normalization first, or ingest if no day is processed yet"
        )
    return constants


def refuse_unasked_fit(store: Store) -> Normalization | None:
    """Raise an error if a run would fit constants as a side effect in a store that has shards.

    Returns
    -------
    The constants that another run has just fitted, or ``None`` in a store without shards.

    Raises
    ------
    MissingInputError
        If there are shards, but the constants with which they were normalized are missing.
    """
    if not layout.shard_files(store):
        return None
    current = current_normalization(store)
    if current is None:
        raise MissingInputError(
            f"{store.locate(layout.CURRENT_NORMALIZATION)} is missing, but there are shards: "
            "restore it, or run fit_normalization and then build_shards for all days"
        )
    return current
