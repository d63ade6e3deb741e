"""Sensor that detects changes in the dataset's range that affect the slots of a day.

A day at the edge of the range may be built only in part. The slots of the day are its data version
in the archive assets; see :mod:`sdoml_dagster.assets.archive`.
"""

from datetime import date

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.archive import observation, slots_version
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings.model import Settings

INTERVAL = 60
"""Seconds between evaluations. If nothing has changed, an evaluation reads only the settings."""


def build_day_range_sensor(settings: Settings) -> dg.SensorDefinition:
    """Build ``day_range_sensor``, which is on by default."""

    @dg.sensor(
        name="day_range_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="When SDOML_START or SDOML_END changes, observes the days at the old and new "
        "edges of the range, so that partly built days are shown as stale. Launches no runs.",
    )
    def day_range_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        edges = [settings.start.date(), *([settings.last_day] if settings.last_day else [])]
        cursor = " ".join(f"{day}={slots_version(settings, day)}" for day in edges)
        if cursor == context.cursor:
            return dg.SkipReason("the range of the dataset is unchanged")
        former = [
            date.fromisoformat(word[:10])
            for word in (context.cursor or "").split(" ")
            if word[10:11] == "="
        ]
        known = daily_partitions(settings)
        events = []
        for instrument in settings.instruments:
            key = dg.AssetKey(DatasetNames(settings.name).key(asset_names.archive(instrument)))
            for day in sorted({*edges, *former}):
                if not known.has_partition_key(day.isoformat()):
                    continue
                last = context.instance.get_latest_data_version_record(
                    key, is_source=True, partition_key=day.isoformat()
                )
                seen = observation(settings, instrument, day)
                before = last.event_log_entry.tags if last else {}
                if (before or {}).get("dagster/data_version") != seen.tags["dagster/data_version"]:
                    events.append(seen)
        return dg.SensorResult(cursor=cursor, asset_events=events)

    return day_range_sensor
