"""The near-real-time schedule checks for new frames and requests a single run for them."""

from collections.abc import Iterator
from typing import Final

import dagster as dg

from sdoml_core.errors import SdomlError
from sdoml_dagster.jobs.asset_jobs import DATASET_TAG
from sdoml_dagster.jobs.live import LIVE_UPDATE
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.runs.dead_runs import is_dead
from sdoml_dagster.schedules.days_in_progress import IN_PROGRESS
from sdoml_dagster.schedules.delete_old_live_runs import delete_old_runs
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout

MINUTES: Final = 3
"""Minutes between ticks: the cadence of the near-real-time tree."""


def build_live_update_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Build ``live_update_schedule``."""

    @dg.schedule(
        job_name=LIVE_UPDATE,
        name="live_update_schedule",
        cron_schedule=f"*/{MINUTES} * * * *",
        execution_timezone="UTC",
        description="Makes at most one request per tree. If there are new near-real-time frames, "
        f"or a definitive day in the last {settings.live_hours} hours, requests one run for all "
        "affected hours. Deletes the records of its own runs that are older than the window.",
    )
    def live_update_schedule(
        context: dg.ScheduleEvaluationContext, store: StoreResource, archive: ArchiveResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from sdoml_dagster.pipeline.live.run import find_news

        opened = store.open()
        now = context.scheduled_execution_time
        delete_old_runs(context.instance, settings, before=now)
        if not opened.exists(layout.CURRENT_NORMALIZATION):
            yield dg.SkipReason(
                f"{opened.locate(layout.CURRENT_NORMALIZATION)} is missing. Live frames need the "
                "normalization constants of a dataset: run ingest for a few days, then "
                "fit_normalization"
            )
            return
        if update_in_progress(context.instance, settings):
            yield dg.SkipReason("a run from an earlier tick is still in progress")
            return
        try:
            news = find_news(
                settings, opened, {i: archive.client(i) for i in settings.instruments}, now=now
            )
        except SdomlError as error:
            yield dg.SkipReason(str(error))
            return
        if not news:
            outages = "; ".join(news.outages)
            yield dg.SkipReason(f"archive unavailable: {outages}" if outages else "no new frames")
            return
        yield dg.RunRequest(
            run_key=f"live@{now:%Y-%m-%dT%H:%M}",
            # Forecasts wait for these frames, so the runs have priority over backfills of old days.
            tags={"dagster/priority": "10"},
        )

    return live_update_schedule


def update_in_progress(instance: dg.DagsterInstance, settings: Settings) -> bool:
    """Return whether a run of ``live_update`` is active. Runs that were killed are ignored."""
    active = dg.RunsFilter(
        job_name=LIVE_UPDATE, tags={DATASET_TAG: settings.name}, statuses=IN_PROGRESS
    )
    return not all(map(is_dead, instance.get_runs(active)))
