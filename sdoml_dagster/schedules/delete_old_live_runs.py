"""Delete the records of near-real-time runs that are older than the window."""

from datetime import datetime, timedelta
from typing import Final

import dagster as dg

from sdoml_dagster.jobs.asset_jobs import DATASET_TAG
from sdoml_dagster.jobs.live import LIVE_UPDATE
from sdoml_dagster.runs.delete_runs import FINISHED, delete_run
from sdoml_dagster.settings.model import Settings

DELETED_AT_ONCE: Final = 50
"""Maximum number of runs that one call deletes, so that a tick of the schedule stays short."""


def delete_old_runs(instance: dg.DagsterInstance, settings: Settings, *, before: datetime) -> None:
    """Delete finished runs of ``live_update`` that were created before the window.

    There are hundreds of runs per day, and the events of old runs describe frames that were
    deleted. The last event for an hour in the window was also recorded within the window, so no
    event that describes an existing frame is deleted.

    Parameters
    ----------
    instance
        Instance that stores the runs.
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
