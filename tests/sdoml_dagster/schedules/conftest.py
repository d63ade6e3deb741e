"""A scheduler with a simulated clock."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import ModuleTarget

from tests.support.clockwork import Clockwork
from tests.support.runs import DAILY, Materialize

MODULE = "sdoml_dagster.definitions"


@pytest.fixture
def window(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDOML_LOOKBACK_DAYS", "3")
    monkeypatch.setenv("SDOML_MISSING_RECHECK_HOURS", "0")
    monkeypatch.setenv("SDOML_RUN_RETRIES", "0")
    monkeypatch.setenv("SDOML_ATTEMPTS", "1")


@pytest.fixture
def clockwork(window: None, instance: dg.DagsterInstance) -> Iterator[Clockwork]:
    target = ModuleTarget(MODULE, attribute=None, working_directory=None, location_name=None)
    with create_test_daemon_workspace_context(target, instance) as workspace:
        yield Clockwork(workspace, instance)
        registry = workspace._grpc_server_registry  # type: ignore[attr-defined]
    registry.wait_for_processes()  # otherwise the Popen objects of the processes warn


@pytest.fixture
def constants(window: None, materialize: Materialize) -> None:
    """Constants fitted to a day outside the window."""
    assert materialize(*DAILY[:4], "normalization_stats", day="2024-03-01").success
