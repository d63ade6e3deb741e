"""A deployment on simulated hosts with real network traffic, a killed worker and a cut link."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.lan import Lan
from tests.cluster.scenario import CONNECTIONS, DAYS, POOL, Evidence, play

pytestmark = [pytest.mark.needs("network namespaces"), pytest.mark.timeout(1000)]


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with tempfile.TemporaryDirectory(prefix="sdoml-cluster-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        with Lan(folder) as running:
            yield running


@pytest.fixture(scope="module")
def seen(lan: Lan, frame_cache: Path) -> Evidence:
    with lan.explained():
        return play(lan, cache=frame_cache, report=print)


def test_cluster_store_matches_single_machine_store(seen: Evidence) -> None:
    assert seen.different == []
    assert seen.files > 16 * len(DAYS)


def test_backfill_uses_several_workers(seen: Evidence) -> None:
    assert len(seen.days_by_worker) >= 2
    assert sum(seen.days_by_worker.values()) >= len(DAYS)


def test_another_worker_builds_the_day_of_a_killed_worker(seen: Evidence) -> None:
    silent = f"no heartbeat from worker {seen.killed_worker}"
    assert any(silent in message for message in seen.messages)
    assert seen.rerun_on in {"worker-1", "worker-2", "worker-3"} - {seen.killed_worker}


def test_disconnected_worker_continues_after_reconnecting(seen: Evidence) -> None:
    assert seen.runs_after_heal > 0


def test_pool_limits_connections_across_all_workers(seen: Evidence) -> None:
    assert seen.max_in_flight == POOL * CONNECTIONS
    assert seen.max_connections <= POOL * CONNECTIONS
