"""The daily schedule: requests every incomplete day of the last few weeks."""

from collections.abc import Iterator

import dagster as dg

from sdoml_dagster.jobs.asset_jobs import DAILY_UPDATE
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.schedules.days_in_progress import days_in_progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout


def build_daily_update_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Build ``daily_update_schedule``."""

    @dg.schedule(
        job_name=DAILY_UPDATE,
        name="daily_update_schedule",
        cron_schedule=f"0 {settings.schedule_hour} * * *",
        execution_timezone="UTC",
        description=f"Checks the {settings.lookback_days} days before the publication lag "
        f"({settings.publication_lag_days} days). Requests each day that has no shard, lacks "
        "frames that may still appear, or has frames that are not in its shard.",
    )
    def daily_update_schedule(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from sdoml_dagster.pipeline.completeness import days_due

        opened = store.open()
        if not opened.exists(layout.CURRENT_NORMALIZATION):
            yield dg.SkipReason(
                f"{opened.locate(layout.CURRENT_NORMALIZATION)} is missing. The schedule does not "
                "fit constants: run ingest for a few days, then fit_normalization"
            )
            return
        tick = context.scheduled_execution_time.date()
        busy = days_in_progress(context.instance, settings)
        due = [day for day in days_due(settings, opened, today=tick) if day not in busy]
        for day in due:
            # The run key contains the tick, so a failed day is requested again at the next tick.
            yield dg.RunRequest(partition_key=day.isoformat(), run_key=f"{day}@{tick}")
        if not due:
            yield dg.SkipReason("every day in the look-back window is complete or in progress")

    return daily_update_schedule
