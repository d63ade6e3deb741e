"""Retention of near-real-time runs: their records are deleted when the window has passed them."""

from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from sdoml_dagster.delete_runs import delete_run
from sdoml_dagster.jobs.asset_jobs import DATASET_TAG
from sdoml_dagster.jobs.live import LIVE_UPDATE
from sdoml_dagster.settings.model import Settings

DELETED_AT_ONCE: Final = 50
"""Runs that one call deletes, so that a tick of the schedule stays short."""

FINISHED: Final = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def delete_old_runs(instance: dg.DagsterInstance, settings: Settings, *, before: datetime) -> None:
    """Delete finished runs of ``live_update`` that were created before the window.

    There are hundreds a day, and their events describe frames that were deleted. An hour gets its
    last event within the window, so no event of a present frame is deleted.

    Parameters
    ----------
    instance
        Instance that has the runs.
    settings
        The dataset. Runs of other datasets are kept.
    before
        The current time (UTC).
    """
    old = dg.RunsFilter(
        job_name=LIVE_UPDATE,
        tags={DATASET_TAG: settings.name},
        statuses=FINISHED,
        created_before=before - timedelta(hours=settings.live_hours),
    )
    for run in instance.get_runs(old, limit=DELETED_AT_ONCE):
        delete_run(instance, run.run_id)
