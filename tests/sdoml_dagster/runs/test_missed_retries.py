"""If Dagster's daemon missed a retry, the retry is requested once more."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.test_utils import create_run_for_test, create_test_daemon_workspace_context
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon

from sdoml_dagster.instance.home import prepare_instance
from sdoml_dagster.runs.missed_retries import LIMIT, request_missed_retries

# Dagster's daemon calls the deprecated Logger.warn.
pytestmark = pytest.mark.filterwarnings("ignore:The 'warn' method:DeprecationWarning")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with run retries, configured like a real instance."""
    prepare_instance(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as found:
        read_failures(found)
        yield found


def read_failures(instance: dg.DagsterInstance) -> None:
    """Run one iteration of Dagster's daemon that retries failed runs."""
    with create_test_daemon_workspace_context(EmptyWorkspaceTarget(), instance) as workspace:
        list(EventLogConsumerDaemon().run_iteration(workspace))


SERVER = GrpcServerCodeLocationOrigin("127.0.0.1", port=1, location_name="stopped")
JOB = RemoteJobOrigin(RemoteRepositoryOrigin(SERVER, "__repository__"), "ingest")


def start(
    instance: dg.DagsterInstance, *, origin: RemoteJobOrigin | None = JOB, **tags: str
) -> dg.DagsterRun:
    run: dg.DagsterRun = create_run_for_test(
        instance,
        "ingest",
        str(uuid.uuid4()),
        status=dg.DagsterRunStatus.STARTED,
        remote_job_origin=origin,
        tags={f"dagster/{name}": text for name, text in tags.items()},
    )
    return run


def tried_to_retry(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Return whether the daemon tried to retry a run. It fails, because the code is not served."""
    events = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
    return any(event and event.message == "Failed to retry run" for event in events)


def test_failure_that_the_daemon_reads_too_early_is_reported_again(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start(instance)
    store_status = instance.run_storage.handle_run_event

    def read_before_status(*arguments: Any) -> None:
        read_failures(instance)
        store_status(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(instance.run_storage, "handle_run_event", read_before_status)
        instance.report_run_failed(run)
    read_failures(instance)
    failed = instance.get_run_by_id(run.run_id)
    assert failed is not None
    assert failed.is_complete_and_waiting_to_retry
    assert not tried_to_retry(instance, run)

    now = datetime.now(UTC)
    assert request_missed_retries(instance, now=now) == []
    later = now + timedelta(minutes=2)
    assert request_missed_retries(instance, now=later) == [run.run_id]
    read_failures(instance)
    assert tried_to_retry(instance, run)
    assert request_missed_retries(instance, now=later + timedelta(hours=1)) == []


def test_only_recently_missed_retries_are_requested(instance: dg.DagsterInstance) -> None:
    missed = start(instance)
    instance.report_run_failed(missed)
    too_late = datetime.now(UTC) + LIMIT + timedelta(minutes=1)
    assert request_missed_retries(instance, now=too_late) == []
    in_time = datetime.now(UTC) + timedelta(hours=1)
    assert request_missed_retries(instance, now=in_time) == [missed.run_id]


def test_runs_that_dagster_does_not_retry_are_left_alone(instance: dg.DagsterInstance) -> None:
    canceled = PartitionBackfill("canceled", BulkActionStatus.CANCELED, False, {}, 0.0)
    instance.add_backfill(canceled)
    start(instance)  # still active
    for run in (
        start(instance, auto_retry_run_id=str(uuid.uuid4())),  # already retried
        start(instance, origin=None),  # from the command line
        start(instance, backfill="canceled"),
        start(instance, backfill="deleted"),
    ):
        instance.report_run_failed(run)
    excluded = start(instance)
    instance.report_run_failed(excluded)
    instance.add_run_tags(excluded.run_id, {"dagster/will_retry": "false"})
    later = datetime.now(UTC) + timedelta(hours=1)
    assert request_missed_retries(instance, now=later) == []
