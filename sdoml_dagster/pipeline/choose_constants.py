"""Choose the normalization constants for a run: the current ones, or a new fit."""

from dataclasses import dataclass

from sdoml_core.normalization.constants import Normalization
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.fit import Fitted, fit_store
from sdoml_dagster.pipeline.frozen_constants import (
    current_normalization,
    freeze,
    refuse_unasked_fit,
)
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class Constants:
    """The constants in use after a run."""

    current: Normalization
    former: Normalization | None
    """The previous constants, or ``None`` if there were none."""

    fitted: Fitted | None
    """The fit of this run, or ``None`` if the run kept the current constants."""


def choose_constants(
    settings: Settings, store: Store, *, days: DayRange, part_of_building: bool
) -> Constants:
    """Keep the current constants, or fit new constants and store them.

    Parameters
    ----------
    settings, store
        The dataset's settings and store.
    days
        Days to which the constants are fitted.
    part_of_building
        Whether the run builds days. Such a run must not change the constants of other days: it
        keeps the current constants, and fits new ones only in a store that has neither constants
        nor shards. If several runs do this at the same time, the constants of the first run are
        kept. Runs that do not build days always fit new constants.

    Raises
    ------
    MissingInputError
        If no day in the range is processed, or if there are shards but their constants are missing.
    """
    former = current_normalization(store)
    if part_of_building:
        kept = former or refuse_unasked_fit(store)
        if kept is not None:
            return Constants(kept, former, None)
    fitted = fit_store(settings, store, days=days)
    current = freeze(store, fitted.normalization, replace=not part_of_building)
    return Constants(current, former, fitted)
