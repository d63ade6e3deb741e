"""Run jobs: in this process, or on Dagster's run queue.

In this process, each day is one run, and the runs execute one after another. With ``--workers``,
the days go through Dagster's run queue (`QueuedRunCoordinator`), because only the queue can run
whole days in parallel. An executor runs the steps of one run in parallel, but the steps of a day
depend on each other. The queue needs a daemon. `sdoml` starts one for the duration of the build.
With ``--submit``, it uses the daemon of the deployment.
"""

import contextlib
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Self

import dagster as dg

from sdoml_dagster.cli.display import Line, LineHandler
from sdoml_dagster.cli.errors import CommandError, DaemonError
from sdoml_dagster.run_logger import RunLogger, tell
from sdoml_dagster.runs.dead_runs import ANY_RUN, process_tag
from sdoml_dagster.schedules.days_in_progress import IN_PROGRESS

MODULE = "sdoml_dagster.definitions"
WORKSPACE = "workspace.yaml"
"""File in the current folder that names the code locations of a deployment."""

BUILD_TAG = "sdoml/build"
"""Run tag that marks the runs of one `sdoml build`."""

PARTITION = "dagster/partition"
WINDOW = 200
"""Maximum number of runs that a build queues at once, because each queued day makes the asset
graph in Dagster's UI slower."""

QUEUE_DAEMON = "QUEUED_RUN_COORDINATOR"
POLL_SECONDS = 0.5
INTERRUPTS = {"InterruptedRunError", "DagsterExecutionInterruptedError", "KeyboardInterrupt"}
"""Names of the error classes that an interrupt causes within a run."""


@dataclass
class Outcome:
    """Outcome of all runs in one stage."""

    failed: dict[str, str] = field(default_factory=dict)
    """The error of each failed run, by day or job."""


class InProcess:
    """Runs jobs one after the other in this process.

    Parameters
    ----------
    definitions
        The loaded code location.
    instance
        Instance that records the runs.
    """

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions = definitions
        self._instance = instance

    def run_days(self, job: str, days: Sequence[date], line: Line) -> Outcome:
        """Run a partitioned job for each day. A failed day does not stop the others."""
        outcome = Outcome()
        for day in days:
            error = self._execute(job, line, partition_key=day.isoformat())
            if error:
                outcome.failed[day.isoformat()] = error
        return outcome

    def run_job(self, job: str, config: Mapping[str, Any], line: Line) -> Outcome:
        """Run a job that has no partitions."""
        error = self._execute(job, line, run_config=config)
        return Outcome({job: error} if error else {})

    def _execute(self, job: str, line: Line, **options: Any) -> str | None:
        """Execute a run. Returns the error of a failed run, or None."""
        errors: list[str] = []

        def collect(level: int, text: str) -> None:
            if level >= logging.ERROR:
                errors.append(text)
            line(level, text)

        RunLogger.terminal = LineHandler(collect)
        logging.setLoggerClass(RunLogger)
        with warnings.catch_warnings(), _interrupts():
            warnings.simplefilter("ignore")
            result = self._definitions.resolve_job_def(job).execute_in_process(
                instance=self._instance,
                raise_on_error=False,
                tags={BUILD_TAG: str(os.getpid()), **process_tag(ANY_RUN)},
                **options,
            )
        if any(map(_is_interrupt, result.all_events)):
            raise KeyboardInterrupt
        return None if result.success else (errors[0] if errors else "the run failed")


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Convert Dagster's interrupts to Python's ``KeyboardInterrupt``."""
    try:
        yield
    except dg.DagsterExecutionInterruptedError:
        raise KeyboardInterrupt from None


def _is_interrupt(event: dg.DagsterEvent) -> bool:
    """Return whether a step or a run failed because of Ctrl-C or because it was terminated."""
    error = None
    if event.is_step_failure:
        error = event.step_failure_data.error
    elif event.is_job_failure:
        error = event.job_failure_data.error
    return error is not None and error.cls_name in INTERRUPTS


def end_leftover_runs(instance: dg.DagsterInstance) -> None:
    """Cancel runs that an earlier, killed build left behind.

    Otherwise, Dagster would show these runs as started forever, and they would keep their slots in
    the pool. Call this only while no other build uses the instance.
    """
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        if BUILD_TAG in run.tags:
            instance.report_run_canceled(run, message="the build that started this run has ended")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


@contextlib.contextmanager
def only_build(home: Path) -> Iterator[None]:
    """Hold the lock on a Dagster home, so that only one build uses it.

    Raises
    ------
    CommandError
        If another build holds the lock.
    """
    with (home / "sdoml-build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"another sdoml build is using {home}: wait until that build ends"
            ) from error
        yield


class Queue:
    """Puts runs into Dagster's queue and follows their progress.

    Parameters
    ----------
    instance
        Instance whose queue is used.
    daemon
        The daemon that was started for this build. None means the deployment's daemon. If
        ``workspace.yaml`` exists, the runs then get the name of the code location from this file,
        because it must be the same as in the deployment.
    """

    def __init__(self, instance: dg.DagsterInstance, daemon: "Daemon | None") -> None:
        self._instance = instance
        self._daemon = daemon

    def run_days(self, job: str, days: Sequence[date], line: Line) -> Outcome:
        """Queue a job for each day that is not in progress, and wait for the runs.

        At most `WINDOW` runs are queued at the same time.
        """
        wanted = {day.isoformat() for day in days}
        runs = {
            run.tags[PARTITION]: run.run_id
            for run in self._instance.get_runs(dg.RunsFilter(job_name=job, statuses=IN_PROGRESS))
            if run.tags.get(PARTITION) in wanted
        }
        left = sorted(wanted - runs.keys())
        outcome = Outcome()
        while left or runs:
            size = max(WINDOW - len(runs), 0)
            window, left = left[:size], left[size:]
            if window:
                runs |= self._queue(job, window)
            outcome.failed |= self._follow(runs, line).failed
            runs = {}
        return outcome

    def _queue(self, job: str, days: Sequence[str]) -> dict[str, str]:
        """Queue a backfill of the given days. Returns the run IDs by day."""
        label = uuid.uuid4().hex
        tags = json.dumps({BUILD_TAG: label})
        self._dagster("backfill", job, "--noprompt", "--partitions", ",".join(days), "--tags", tags)
        found = self._instance.get_runs(dg.RunsFilter(tags={BUILD_TAG: label}))
        return {run.tags[PARTITION]: run.run_id for run in found}

    def run_job(self, job: str, config: Mapping[str, Any], line: Line) -> Outcome:
        """Queue one run of a job and wait for it."""
        run_id = str(uuid.uuid4())
        self._dagster("launch", job, "--run-id", run_id, "--config-json", json.dumps(config))
        return self._follow({job: run_id}, line)

    def _dagster(self, command: str, job: str, *options: str) -> None:
        deployed = self._daemon is None and Path(WORKSPACE).is_file()
        target = ["-w", WORKSPACE] if deployed else ["-m", MODULE]
        _dagster(command, target, job, *options)

    def _follow(self, runs: Mapping[str, str], line: Line) -> Outcome:
        """Show the log lines of runs until all have ended."""
        outcome = Outcome()
        cursors: dict[str, str | None] = dict.fromkeys(runs.values())
        waiting = dict(runs)
        try:
            while waiting:
                for name, run_id in list(waiting.items()):
                    # Get the status before the lines, so that no line is missed.
                    status = self._status(run_id)
                    errors = self._show_lines(run_id, cursors, line)
                    if errors:
                        outcome.failed[name] = errors[0]
                    if status not in IN_PROGRESS:
                        del waiting[name]
                        if status != dg.DagsterRunStatus.SUCCESS:
                            outcome.failed.setdefault(
                                name, f"the run ended with status {status.value}"
                            )
                        else:
                            outcome.failed.pop(name, None)
                if self._daemon is not None:
                    self._daemon.check()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            if self._daemon is not None:
                self._end(waiting.values())
            raise
        return outcome

    def _status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self._instance.get_run_by_id(run_id)
        return dg.DagsterRunStatus.CANCELED if run is None else run.status

    def _show_lines(self, run_id: str, cursors: dict[str, str | None], line: Line) -> list[str]:
        """Pass the new lines of a run to the display. Returns the run's errors."""
        found = self._instance.get_records_for_run(run_id, cursor=cursors[run_id])
        cursors[run_id] = found.cursor
        errors = []
        for record in found.records:
            entry = record.event_log_entry
            level, text = (
                tell(entry.dagster_event)
                if entry.dagster_event is not None
                else (int(entry.level), entry.user_message)
            )
            line(level, text)
            if level >= logging.ERROR:
                errors.append(text)
        return errors

    def _end(self, run_ids: Iterable[str]) -> None:
        """Cancel queued runs and stop active runs."""
        for run_id in run_ids:
            run = self._instance.get_run_by_id(run_id)
            if run is None or run.status not in IN_PROGRESS:
                continue
            if run.status in {dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED}:
                self._instance.report_run_canceled(run)
            else:
                with contextlib.suppress(Exception):  # the run's process may already have ended
                    self._instance.run_launcher.terminate(run_id)


class Daemon:
    """A Dagster daemon that processes the queue during a build.

    The daemon waits on a pipe, which closes when this process ends for any reason. The daemon then
    ends too.

    Parameters
    ----------
    home
        Home of the instance. The daemon writes its log to this folder.
    """

    def __init__(self, home: Path) -> None:
        self._log = home / "daemon.log"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter and arguments
                [sys.executable, "-W", "ignore", "-c", _DAEMON, "run", "-m", MODULE],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # hide Ctrl-C from the daemon, because this process ends it
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def check(self) -> None:
        """Raise an error if the daemon has ended unexpectedly.

        Raises
        ------
        DaemonError
            If the daemon has ended. The message names its log file.
        """
        if self._process.poll() is not None:
            raise DaemonError(f"the Dagster daemon ended unexpectedly: see {self._log}")


_DAEMON = """
import os, threading

def end_with_parent():
    os.read(0, 1)
    os.kill(os.getpid(), 15)

threading.Thread(target=end_with_parent, daemon=True).start()
from dagster._daemon.cli import main
main()
"""


def daemon_is_alive(instance: dg.DagsterInstance) -> bool:
    """Return whether a daemon of the deployment is processing the run queue."""
    return instance.get_daemon_statuses([QUEUE_DAEMON])[QUEUE_DAEMON].healthy is True


_DAGSTER_JOB = ("-W", "ignore", "-m", "dagster", "job")


def _dagster(command: str, target: Sequence[str], job: str, *options: str) -> None:
    """Run ``dagster job``, the public interface to the queue.

    Raises
    ------
    DaemonError
        If the command fails. The message contains the end of its output.
    """
    done = subprocess.run(  # noqa: S603 our own interpreter and arguments
        [sys.executable, *_DAGSTER_JOB, command, *target, "-j", job, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise DaemonError(f"dagster job {command} -j {job} failed: {lines[-1] if lines else ''}")
