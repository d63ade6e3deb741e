"""The daily schedule: asks for every day of the last weeks that is not yet complete."""

from collections.abc import Iterator
from datetime import date

import dagster as dg

from sdoml_dagster.jobs.asset_jobs import daily_update
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout


def build_daily_update_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """``daily_update_schedule``."""

    @dg.schedule(
        job=daily_update,
        name="daily_update_schedule",
        cron_schedule=f"0 {settings.schedule_hour} * * *",
        execution_timezone="UTC",
        description=f"Every day of the {settings.lookback_days} days before the publication lag "
        "that has no shard yet, lacks frames that may still appear, or has some that its shard "
        "lacks.",
    )
    def daily_update_schedule(
        context: dg.ScheduleEvaluationContext, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from sdoml_dagster.pipeline.completeness import days_due

        opened = store.open()
        if not opened.exists(layout.CURRENT_NORMALIZATION):
            yield dg.SkipReason(
                f"{opened.locate(layout.CURRENT_NORMALIZATION)} is not there, and a schedule fits "
                "no constants: run ingest for some days, then fit_normalization"
            )
            return
        tick = context.scheduled_execution_time.date()
        busy = days_in_progress(context.instance)
        due = [day for day in days_due(settings, opened, today=tick) if day not in busy]
        for day in due:
            # With the tick in it, a day that failed is asked for again at the next one.
            yield dg.RunRequest(partition_key=day.isoformat(), run_key=f"{day}@{tick}")
        if not due:
            yield dg.SkipReason("every day of the look-back window is complete or under way")

    return daily_update_schedule


def days_in_progress(instance: dg.DagsterInstance) -> set[date]:
    """Days that a run of the daily update is queued for or working on."""
    runs = instance.get_runs(
        dg.RunsFilter(
            job_name=daily_update.name,
            statuses=[
                dg.DagsterRunStatus.QUEUED,
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.CANCELING,
            ],
        )
    )
    return {
        date.fromisoformat(run.tags["dagster/partition"])
        for run in runs
        if "dagster/partition" in run.tags
    }
