"""Sensor that evaluates the freshness check without launching runs."""

from datetime import UTC, datetime

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.checks.freshness import FRESHNESS, freshness_metadata
from sdoml_dagster.pipeline.freshness import judge_freshness
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings

INTERVAL = 60
"""Seconds between evaluations. Each evaluation lists the shards folder once."""


def build_freshness_sensor(settings: Settings) -> dg.SensorDefinition:
    """Build ``freshness_sensor``, which is on by default."""
    key = dg.AssetKey(DatasetNames(settings.name).key(asset_names.SHARDS))

    @dg.sensor(
        name="freshness_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Evaluates the `freshness` check of `shards` whenever its result or the shards "
        "change. Launches no runs.",
    )
    def freshness_sensor(
        context: dg.SensorEvaluationContext, store: StoreResource
    ) -> dg.SensorResult | dg.SkipReason:
        found = judge_freshness(settings, store.open(), now=datetime.now(UTC))
        # A new materialization makes the evaluation outdated in the UI, so the check is evaluated
        # again.
        latest = context.instance.get_latest_data_version_record(key)
        cursor = f"{latest.storage_id if latest else None} {found.newest} {found}"
        if cursor == context.cursor:
            return dg.SkipReason(f"unchanged: {found}")
        return dg.SensorResult(
            cursor=cursor,
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=key,
                    check_name=FRESHNESS,
                    passed=found.fresh,
                    description=str(found),
                    metadata=freshness_metadata(found),
                )
            ],
        )

    return freshness_sensor
