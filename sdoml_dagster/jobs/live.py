"""The job ``live_update``: one run updates all hours that have new frames."""

from datetime import UTC, datetime

import dagster as dg

from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.live import hour_events
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.jobs.asset_jobs import DATASET_TAG
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout

LIVE_UPDATE = "live_update"


def build_live_job(settings: Settings) -> dg.JobDefinition:
    """Build ``live_update``."""
    names = DatasetNames(settings.name)

    @dg.op(
        name="update_live_window",
        description="Fetches, processes and publishes new near-real-time frames.",
        pool=names.pool,
        # Retries are disabled, because the next tick of the schedule requests the same frames
        # again.
    )
    def update_live_window(
        context: dg.OpExecutionContext, store: StoreResource, archive: ArchiveResource
    ) -> None:
        from sdoml_dagster.pipeline.live.run import update_window

        with failures_explained():
            opened = store.open()
            done = update_window(
                settings=settings,
                store=opened,
                clients={i: archive.client(i) for i in settings.instruments},
                now=datetime.now(UTC),
                report=context.log.info,
            )
            if done.outage is not None:
                context.log.warning(f"{done.outage}. The next update will request the frames again")
            for hour, rows in sorted(done.rows.items()):
                table = opened.locate(layout.live_table(hour))
                index = opened.locate(layout.LIVE_INDEX)
                for event in hour_events(settings, hour, rows, table=table, index=index):
                    context.log_event(event)
        context.log.info(
            f"live: {counted(done.frames.total(), 'new frame')}, "
            f"{counted(done.slots, 'slot')} published, "
            f"{counted(done.samples, 'slot')} in the window"
        )

    @dg.job(
        name=LIVE_UPDATE,
        description="Bring the near-real-time window up to date.",
        tags={DATASET_TAG: settings.name},
    )
    def live_update() -> None:
        update_live_window()

    return live_update
