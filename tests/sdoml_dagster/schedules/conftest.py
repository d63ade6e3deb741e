"""A scheduler with a simulated clock."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import GrpcServerTarget

from sdoml_demo.ui import MODULE
from tests.support.clockwork import ROOT, Clockwork
from tests.support.code_servers import accepts_connections, start_code_server
from tests.support.runs import DAILY, Materialize


@pytest.fixture
def window(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDOML_LOOKBACK_DAYS", "3")
    monkeypatch.setenv("SDOML_MISSING_RECHECK_HOURS", "0")
    monkeypatch.setenv("SDOML_RUN_RETRIES", "0")
    monkeypatch.setenv("SDOML_ATTEMPTS", "1")


@pytest.fixture
def clockwork(window: None, instance: dg.DagsterInstance) -> Iterator[Clockwork]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    log = Path(instance.root_directory, "code_server.log")
    server, port = start_code_server(environment, log)
    try:
        deadline = time.monotonic() + 120
        while not accepts_connections(port):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        target = GrpcServerTarget(host="127.0.0.1", port=port, socket=None, location_name=MODULE)
        with create_test_daemon_workspace_context(target, instance) as workspace:
            yield Clockwork(workspace, instance)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def constants(window: None, materialize: Materialize) -> None:
    """Constants fitted to a day outside the window."""
    assert materialize(*DAILY[:4], "normalization_stats", day="2024-03-01").success
