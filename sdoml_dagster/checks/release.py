"""Check that all shards of a release were normalized with the same constants."""

import json

import dagster as dg

from sdoml_core.errors import SdomlError
from sdoml_core.formats.release_files import RELEASE_CONSTANTS, RELEASE_INDEX
from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


def build_release_check(settings: Settings) -> dg.AssetChecksDefinition:
    """Build the check of ``release``."""

    @dg.asset_check(
        asset=dg.AssetKey(DatasetNames(settings.name).key(asset_names.RELEASE)),
        name="one_normalization",
        description="The shards of each release were normalized with the constants in the release.",
    )
    def one_normalization(store: StoreResource) -> dg.AssetCheckResult:
        with failures_explained():
            opened = store.open()
            wrong = judge_releases(opened)
        return dg.AssetCheckResult(
            passed=not wrong,
            description="; ".join(wrong) or "each release uses one version of the constants",
            metadata={"releases": len(layout.release_names(opened))},
        )

    return one_normalization


def judge_releases(store: Store) -> list[str]:
    """Return one line for each problem in the releases of a store."""
    wrong = []
    for name in layout.release_names(store):
        try:
            problem = _judge(store, layout.release_folder(name))
        except (SdomlError, FileNotFoundError) as error:
            problem = str(error)
        if problem:
            wrong.append(f"{name}: {problem}")
    return wrong


def _judge(store: Store, folder: str) -> str | None:
    """Describe how a release's constants differ from its shards'. Return None if they agree."""
    from sdoml_core.formats.parquet import index_metadata, open_parquet
    from sdoml_core.normalization.constants import from_json

    # Read only the footer, because the index of a long release has hundreds of megabytes.
    with store.open(f"{folder}/{RELEASE_INDEX}") as file:
        schema = open_parquet(file).schema_arrow
    facts = index_metadata(schema, kind="release")
    beside = from_json(store.read(f"{folder}/{RELEASE_CONSTANTS}"))
    if facts["sdoml.normalization"] != beside.version:
        return (
            f"its shards were normalized with version {facts['sdoml.normalization']}, but its "
            f"normalization.json has version {beside.version}: make the release again"
        )
    different = [
        name
        for name, used in json.loads(facts["sdoml.channels"]).items()
        if used["constant"] != beside.constant(name)
    ]
    if not different:
        return None
    return f"its shards were normalized with a different constant for {', '.join(different)}"
