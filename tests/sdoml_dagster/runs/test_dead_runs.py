"""Runs whose processes were killed are marked as failed and retried. Other runs are untouched."""

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sdoml_dagster.runs.dead_runs import PROCESS_TAG, end_dead_runs, is_dead
from sdoml_dagster.runs.process_identity import ProcessIdentity, has_ended, this_process
from sdoml_dagster.schedules.days_in_progress import days_in_progress
from sdoml_dagster.settings.model import Settings
from sdoml_demo.server import Archive
from tests.support.commands import run_module, start_module
from tests.support.deployment import Deployment
from tests.support.runs import SMALL

STARTED = dg.DagsterRunStatus.STARTED
OUTSIDE = "pid:[4026531836]"


@pytest.fixture(scope="module")
def ended() -> ProcessIdentity:
    """The identity of a process that has ended."""
    program = "from sdoml_dagster.runs.process_identity import this_process; print(this_process())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    identity = ProcessIdentity.parse(done.stdout.strip())
    assert identity is not None
    return identity


def here() -> ProcessIdentity:
    identity = this_process()
    assert identity is not None
    return identity


def test_live_process_has_not_ended() -> None:
    assert not has_ended(here())
    assert ProcessIdentity.parse(str(here())) == here()


def test_killed_process_has_ended_even_if_its_id_is_reused(ended: ProcessIdentity) -> None:
    assert has_ended(ended)
    assert has_ended(replace(here(), started="1"))


def test_zombie_has_ended() -> None:
    program = "import sys; from sdoml_dagster.runs.process_identity import this_process;"
    program += "print(this_process(), flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        identity = ProcessIdentity.parse(child.stdout.readline().strip())
        assert identity is not None
        assert not has_ended(identity)
        child.kill()
        deadline = time.monotonic() + 60
        while not has_ended(identity):  # do not wait for the child yet, so that it is a zombie
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_processes_on_other_machines_are_ignored(ended: ProcessIdentity) -> None:
    assert not has_ended(replace(ended, namespace="pid:[1]"))
    assert not has_ended(replace(ended, machine="other/1"))
    assert not has_ended(replace(ended, boot="other", machine="other/1"))
    assert not has_ended(replace(ended, boot="other", namespace="pid:[1]"))


def test_process_of_an_earlier_boot_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    now = replace(here(), namespace=OUTSIDE)
    monkeypatch.setattr("sdoml_dagster.runs.process_identity.this_process", lambda: now)
    assert has_ended(replace(now, boot="earlier"))
    assert not has_ended(replace(now, boot="earlier", machine="another/2"))


def test_dead_runs_are_marked_failed_and_their_days_are_released(
    settings: Settings, ended: ProcessIdentity
) -> None:
    def start(process: ProcessIdentity, day: int, *, of: str | None = None) -> str:
        run_id = str(uuid.uuid4())
        tags = {PROCESS_TAG: f"{of or run_id} {process}", "dagster/partition": f"2024-03-{day:02}"}
        create_run_for_test(instance, "ingest", run_id, status=STARTED, tags=tags)
        return run_id

    with dg.DagsterInstance.ephemeral() as instance:
        dead = start(ended, 8)
        start(here(), 9)
        start(replace(ended, namespace="pid:[1]"), 10)
        start(ended, 11, of=dead)  # a retry begins with the tags of the run that it repeats
        assert {day.day for day in days_in_progress(instance, settings)} == {9, 10, 11}
        assert end_dead_runs(instance) == [dead]
        assert end_dead_runs(instance) == []
        statuses = {run.run_id: run.status for run in instance.get_runs()}
        assert statuses.pop(dead) == dg.DagsterRunStatus.FAILURE
        assert list(statuses.values()) == [STARTED] * 3


@pytest.mark.slow
def test_next_command_ends_a_killed_run_and_frees_its_slot(
    environment: dict[str, str],
    frame_cache: Path,
    tmp_path: Path,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["dagster", "asset", "materialize", "-m", "sdoml_dagster.definitions"]
    command += ["--select", "raw_hmi", "--partition", "2024-03-08"]
    instance.event_log_storage.set_concurrency_slots("jsoc", 1)
    with Archive(cache=frame_cache, absences=False, latency=60) as stalled:
        monkeypatch.setenv("SDOML_HMI_ROOTS", stalled.hmi_root)
        run = start_module(*command, env=os.environ, log=tmp_path / "run.log")
        deadline = time.monotonic() + 120
        while not stalled.log.in_flight.total():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGKILL)
        run.wait(60)
    (killed,) = instance.get_runs()
    assert killed.status == STARTED
    assert is_dead(killed)
    monkeypatch.setenv("SDOML_HMI_ROOTS", environment["SDOML_HMI_ROOTS"])
    done = run_module(*command)
    assert done.returncode == 0, done.stderr
    found = instance.get_run_by_id(killed.run_id)
    assert found is not None
    assert found.status == dg.DagsterRunStatus.FAILURE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_backfill_finishes_after_all_processes_are_killed(
    frame_cache: Path, tmp_path: Path
) -> None:
    days = [f"2024-03-{day:02}" for day in range(1, 5)]
    with Archive(cache=frame_cache, absences=False, latency=60) as archive:
        environment = SMALL | {
            "SDOML_CHANNELS": "HMI_M",
            "SDOML_MAX_CONNECTIONS": "1",
            "SDOML_STORE": str(tmp_path / "store"),
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "DAGSTER_HOME": str(tmp_path / "dagster"),
        }
        with Deployment(environment) as deployment:
            backfill = deployment.launch(["raw_hmi"], days)
            deadline = time.monotonic() + 300
            while archive.log.in_flight.total() < 2:  # one request from each run
                assert time.monotonic() < deadline, "the two runs did not start in time"
                time.sleep(0.2)
            assert deployment.crash() >= 6  # three services, two runs, and the parent of the runs
        archive.latency = 0.0
        with Deployment(environment) as deployment:
            found = deployment.wait(backfill, timeout=600)
            assert found["status"] == "COMPLETED_SUCCESS", found
            ends = [run["status"] for run in found["runs"]]
            assert ends.count("SUCCESS") == len(days)
            assert ends.count("FAILURE") >= 2  # the runs that were killed
    assert len(list((tmp_path / "store/raw").rglob("*.jpg"))) == 4 * len(days)
