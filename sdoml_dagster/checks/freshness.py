"""Freshness check of ``shards``: every day that is due must have a shard.

Dagster's own freshness policy looks at the last materialization of an asset, regardless of its day.
It would stay green while the newest days are missing, as long as old days are rebuilt.
"""

from datetime import UTC, datetime

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.pipeline.freshness import Freshness, judge_freshness
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings

FRESHNESS = "freshness"


def build_freshness_check(settings: Settings) -> dg.AssetChecksDefinition:
    """Build the check ``freshness`` of ``shards``."""
    key = dg.AssetKey(DatasetNames(settings.name).key(asset_names.SHARDS))

    @dg.asset_check(
        asset=key,
        name=FRESHNESS,
        description="From the first day with a shard to the end of the dataset, each day has a "
        f"shard if it is older than the publication lag ({settings.publication_lag_days} days) "
        "plus one day of grace. The sensor `freshness_sensor` evaluates the check continuously.",
    )
    def freshness(store: StoreResource) -> dg.AssetCheckResult:
        with failures_explained():
            found = judge_freshness(settings, store.open(), now=datetime.now(UTC))
        return dg.AssetCheckResult(
            passed=found.fresh,
            description=str(found),
            metadata=freshness_metadata(found),
        )

    return freshness


def freshness_metadata(found: Freshness) -> dict[str, str | int]:
    """Return the metadata of an evaluation."""
    return {
        "newest_day": str(found.newest or "none"),
        "due_day": str(found.due or "none"),
        "missing_days": len(found.missing),
    }
