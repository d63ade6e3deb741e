"""Interrupted runs end immediately without retries, and the next run continues."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdoml_demo.server import Archive
from tests.support.commands import run_module
from tests.support.deployment import STATUS, Deployment

COMMAND = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize"]
COMMAND += ["-m", "sdoml_dagster.definitions", "--select", "raw_aia,raw_hmi"]
COMMAND += ["--partition", "2024-03-08"]


def test_ctrl_c_ends_a_run_and_the_next_run_completes_the_day(
    environment: dict[str, str], frame_cache: Path, monkeypatch
) -> None:
    monkeypatch.setenv("SDOML_RETRY_DELAY", "60")
    with Archive(cache=frame_cache, absences=False, latency=2) as slow:
        monkeypatch.setenv("SDOML_AIA_ROOTS", slow.aia_root)
        monkeypatch.setenv("SDOML_MAX_CONNECTIONS", "1")
        with subprocess.Popen(
            COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            assert run.stdout is not None
            for line in run.stdout:
                if "raw_aia 2024-03-08: 1/8 frames" in line:
                    break
            run.send_signal(signal.SIGINT)
            interrupted = time.monotonic()
            after = run.communicate(timeout=100)[0]
    assert time.monotonic() - interrupted < 30, after
    assert run.returncode != 0
    assert "interrupted: finished frames are kept" in after
    assert "trying again" not in after
    assert "raw_hmi 2024-03-08" not in after
    monkeypatch.setenv("SDOML_AIA_ROOTS", environment["SDOML_AIA_ROOTS"])
    done = run_module(*COMMAND[4:])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path(environment["SDOML_STORE"]).rglob("*.fits"))) == 8


TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
"""The request that the UI's Terminate button sends."""


@pytest.mark.timeout(400)
def test_terminated_run_is_not_retried(
    environment: dict[str, str], frame_cache: Path, tmp_path: Path
) -> None:
    with Archive(cache=frame_cache, absences=False, latency=2) as slow:
        variables = environment | {
            "SDOML_AIA_ROOTS": slow.aia_root,
            "SDOML_MAX_CONNECTIONS": "1",
            "SDOML_RETRY_DELAY": "120",
            "DAGSTER_HOME": str(tmp_path / "ui"),
        }
        with Deployment(variables) as deployment:
            backfill = deployment.launch(["raw_aia", "processed_aia"], ["2024-03-08"])
            wait_until(lambda: len(slow.log.requests) > 1, seconds=120)
            (run,) = deployment.graphql(STATUS, id=backfill)["partitionBackfillOrError"]["runs"]
            answer = deployment.graphql(TERMINATE, id=run["id"])
            assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess"
            found = deployment.wait(backfill, timeout=60)
            (run,) = found["runs"]
            assert run["status"] == "CANCELED", found
            # A pending request is logged after its response. Wait for it.
            wait_until(lambda: not slow.log.in_flight.total(), seconds=10)
            asked = len(slow.log.requests)
            time.sleep(5)
            assert len(slow.log.requests) == asked


def wait_until(holds: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)
