"""Sensor that deletes log messages and step events of old runs."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from sdoml_dagster.formatting import counted
from sdoml_dagster.runs.delete_event_logs import delete_old_event_logs
from sdoml_dagster.settings.model import Settings

INTERVAL = 3600
"""Seconds between evaluations."""


def build_event_log_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Build ``event_log_sensor`` if ``SDOML_EVENT_LOG_DAYS`` is set; otherwise return nothing."""
    if not settings.event_log_days:
        return []
    age = timedelta(days=settings.event_log_days)

    @dg.sensor(
        name="event_log_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Deletes log messages and step events of runs that ended more than "
        f"{counted(settings.event_log_days, 'day')} ago (SDOML_EVENT_LOG_DAYS). Runs, asset events "
        "and check results are kept.",
    )
    def event_log_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        number = delete_old_event_logs(context.instance, before=datetime.now(UTC) - age)
        return dg.SkipReason(f"deleted the event logs of {counted(number, 'run')}")

    return [event_log_sensor]
