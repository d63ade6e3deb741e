"""Find failed runs that Dagster should have retried but did not, and request the retries.

Dagster first records the failure of a run and then changes the run's status. If its daemon reads
the failure in between, the run does not have the status FAILURE yet. The daemon then starts no
retry and never looks at the run again, and the run's backfill waits for the retry forever.
"""

from datetime import datetime, timedelta

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from dagster._core.storage.tags import BACKFILL_ID_TAG, WILL_RETRY_TAG

REQUESTED_TAG = ".dagster/sdoml_retry_requested"
"""Run tag that marks a requested retry, so that it is requested only once. Hidden in the UI."""

DELAY = timedelta(minutes=1)
"""Time that Dagster gets to start a retry by itself. Its daemon reads failures every 5 seconds."""

LIMIT = timedelta(days=1)
"""Older failures are left alone, because someone may have handled them already."""


def request_missed_retries(instance: dg.DagsterInstance, *, now: datetime) -> list[str]:
    """Report the failure of such runs again, so that Dagster retries them. Returns their IDs."""
    recent = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE],
        tags={WILL_RETRY_TAG: "true"},
        updated_after=now - LIMIT,
    )
    requested = []
    for record in instance.get_run_records(recent):
        run = record.dagster_run
        if not run.is_complete_and_waiting_to_retry or REQUESTED_TAG in run.tags:
            continue
        if run.remote_job_origin is None or _backfill_has_ended(instance, run):
            continue  # Dagster does not retry such runs
        if now.timestamp() - (record.end_time or 0.0) < DELAY.total_seconds():
            continue
        instance.add_run_tags(run.run_id, {REQUESTED_TAG: "true"})
        instance.report_run_failed(
            run, message="Dagster did not retry this run. The retry was requested again."
        )
        requested.append(run.run_id)
    return requested


def _backfill_has_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    backfill_id = run.tags.get(BACKFILL_ID_TAG)
    if backfill_id is None:
        return False
    backfill = instance.get_backfill(backfill_id)
    return backfill is None or backfill.status in BULK_ACTION_TERMINAL_STATUSES
