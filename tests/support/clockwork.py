"""Dagster's scheduler with the real code location and a simulated clock.

Tests run the scheduler at given times. The code location is a separate process, and queued runs are
actually executed.
"""

import logging
import os
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.execution.api import execute_run
from dagster._core.test_utils import freeze_time
from dagster._scheduler.scheduler import launch_scheduled_runs

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.commands import start_module

ROOT = Path(__file__).parents[2]
# With a lag of 8 days and a look-back of 3 days, the window is March 10 to 12.
TICK = datetime(2024, 3, 20, 6, tzinfo=UTC)
QUEUED = dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED])


def execute(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Execute a queued run and return whether it succeeded."""
    instance.report_dagster_event(  # take the run out of the queue
        DagsterEvent(DagsterEventType.PIPELINE_STARTING.value, run.job_name), run_id=run.run_id
    )
    taken = instance.get_run_by_id(run.run_id)
    assert taken is not None
    job = build_defs(Settings.load()).resolve_job_def(run.job_name)
    return execute_run(InMemoryJob(job), taken, instance).success


class Clockwork:
    """A scheduler that runs at the times given by a test."""

    def __init__(self, workspace: object, instance: dg.DagsterInstance) -> None:
        self._workspace = workspace
        self.instance = instance
        self._times: dict[str, object] = {}
        location = next(iter(workspace.create_request_context().code_locations))  # type: ignore[attr-defined]
        repository = next(iter(location.get_repositories().values()))
        self.schedule = repository.get_schedule("daily_update_schedule")
        with freeze_time(TICK - timedelta(minutes=1)):
            instance.start_schedule(self.schedule)

    def tick(self, time: datetime) -> list[str]:
        """Run the scheduler at a time; return the days that it requests."""
        known = {run.run_id for run in self.instance.get_runs()}
        with freeze_time(time + timedelta(seconds=5)):
            list(
                launch_scheduled_runs(
                    self._workspace,  # type: ignore[arg-type]
                    logging.getLogger("scheduler"),
                    time + timedelta(seconds=5),
                    self._times,  # type: ignore[arg-type]
                )
            )
        last = self.instance.get_ticks(
            self.schedule.get_remote_origin_id(), self.schedule.selector_id
        )[0]
        assert last.error is None, last.error
        runs = [run for run in self.instance.get_runs() if run.run_id not in known]
        assert all(run.job_name == "daily_update" for run in runs)
        return sorted(run.tags["dagster/partition"] for run in runs)

    def work(self) -> dict[str, str]:
        """Execute the queued runs and return their outcomes by day."""
        return {
            run.tags["dagster/partition"]: "ok" if execute(self.instance, run) else "failed"
            for run in self.instance.get_runs(QUEUED)
        }

    def crash(self, day: str, at: str) -> None:
        """Execute a day's queued run and kill it as soon as a file exists in the store.

        Parameters
        ----------
        day
            Day of the run.
        at
            Glob pattern of the file, relative to the store.
        """
        queued = self.instance.get_runs(QUEUED)
        (run,) = (run for run in queued if run.tags["dagster/partition"] == day)
        store = Path(Settings.load().store)
        process = start_module(
            "tests.support.clockwork",
            run.run_id,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            log=Path(self.instance.root_directory) / "crash.log",
        )
        deadline = time.monotonic() + 120
        while not list(store.glob(at)):
            with suppress(TimeoutError):
                process.wait(0.002)
                raise AssertionError("the run ended before the crash")
            assert time.monotonic() < deadline
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)


if __name__ == "__main__":
    with dg.DagsterInstance.get() as _instance:
        _run = _instance.get_run_by_id(sys.argv[1])
        assert _run is not None
        execute(_instance, _run)
