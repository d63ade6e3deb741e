"""A week of operation with faults ends with the same store as a build without faults."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from sdoml_dagster.assets import processed
from sdoml_dagster.pipeline import process
from sdoml_dagster.runs.dead_runs import end_dead_runs
from sdoml_dagster.settings.model import Settings
from sdoml_demo.clock import Clock
from sdoml_demo.faults import FaultPlan
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive
from tests.support.clockwork import TICK, Clockwork
from tests.support.deployment import Days
from tests.support.live import LiveDeployment
from tests.support.runs import DAILY, run_assets
from tests.support.staleness import stale

pytestmark = [pytest.mark.slow, pytest.mark.needs("mounts")]
FIRST = "2024-03-01"
"""The day to which the constants are fitted."""


@pytest.fixture
def archive(frame_cache: Path) -> Iterator[Archive]:
    """An archive with a near-real-time tree that publishes definitive frames after eight days."""
    clock = Clock(TICK - timedelta(minutes=1), speed=0)
    with Archive(
        cache=frame_cache, absences=False, lag_days=7.5, clock=clock, live=LivePlan()
    ) as found:
        yield found


@pytest.fixture(autouse=True)
def disk(environment: Mapping[str, str]) -> Iterator[None]:
    """Put the store on a separate file system."""
    folder = environment["SDOML_STORE"]
    Path(folder).mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", folder], check=True)
    yield
    subprocess.run(["umount", folder], check=True)


def resize(store: str, size: str) -> None:
    """Change the size of the store's file system."""
    subprocess.run(["mount", "-o", f"remount,size={size}", store], check=True)


def earlier_release(patch: pytest.MonkeyPatch) -> None:
    """Make the package behave like an earlier version whose AIA frames had different pixels."""
    code_version, process_aia = processed.code_version, process.process_aia

    def dimmer(*arguments: Any, **options: Any) -> Any:
        pixels = process_aia(*arguments, **options)
        return np.multiply(pixels, np.float32(0.5), out=pixels)

    patch.setattr(processed, "code_version", lambda _, **recipe: code_version("1", **recipe))
    patch.setattr(process, "process_aia", dimmer)


def files(store: str) -> dict[str, str]:
    """Return the SHA-256 of each file of the daily assets by path."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in ("raw", "processed", "shards")
        for path in Path(store, name).rglob("*")
        if path.is_file()
    }


def used(store: str) -> int:
    """Return the bytes in use on the store's file system."""
    found = os.statvfs(store)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def test_week_with_faults_ends_with_the_store_of_a_build_without_faults(
    constants: None,
    clockwork: Clockwork,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    settings = Settings.load(live_hours=6)
    live, instance = LiveDeployment(settings, archive), clockwork.instance

    def start_day(number: int, faults: FaultPlan | None = None) -> list[str]:
        monkeypatch.setattr(archive, "faults", faults or FaultPlan())
        archive.clock.advance(TICK + timedelta(days=number) - archive.clock.now())
        live.tick()
        end_dead_runs(instance)  # as the sensor does
        return [day.removeprefix("2024-03-") for day in clockwork.tick(archive.clock.now())]

    with monkeypatch.context() as patch:
        earlier_release(patch)
        assert start_day(0) == ["10", "11", "12"]
        assert set(clockwork.work().values()) == {"ok"}
        # The archive is down for one day, and half of the next day's frames appear late.
        assert start_day(1, Days(outage=frozenset({"2024/03/13"}))) == ["13"]
        assert clockwork.work() == {"2024-03-13": "failed"}
        assert start_day(2, Days(half=frozenset({"2024/03/14"}))) == ["13", "14"]
        assert set(clockwork.work().values()) == {"ok"}
        # The machine crashes during a fetch.
        assert start_day(3) == ["14", "15"]
        clockwork.crash("2024-03-15", "raw/2024/03/15/*.fits")
        assert clockwork.work() == {"2024-03-14": "ok"}
    # The package is upgraded. Then the machine crashes during processing.
    assert start_day(4) == ["15", "16"]
    clockwork.crash("2024-03-16", "processed/2024/03/16/*.npy*")
    assert clockwork.work() == {"2024-03-15": "ok"}
    assert start_day(5) == ["16", "17"]
    resize(settings.store, f"{used(settings.store) + (64 << 10)}")
    assert clockwork.work() == {"2024-03-16": "failed", "2024-03-17": "failed"}
    resize(settings.store, "300m")
    assert start_day(6) == ["16", "17", "18"]
    assert set(clockwork.work().values()) == {"ok"}
    assert start_day(7) == ["19"]
    assert set(clockwork.work().values()) == {"ok"}

    # Dagster shows the days built with the earlier version as stale. Rebuilding them fixes that.
    week = [f"2024-03-{number}" for number in range(10, 20)]
    old = [f"{asset}@{day}" for asset in ("processed_aia", "processed_hmi") for day in week[:5]]
    assert stale(instance, *week) == set(old)
    assert run_assets(instance, *DAILY, days=(week[0], week[4])).success
    assert stale(instance, *week) == set()

    clean = tmp_path / "clean"
    clean.mkdir()
    shutil.copytree(Path(settings.store, "normalization"), clean / "normalization")
    monkeypatch.setenv("SDOML_STORE", str(clean))
    with dg.DagsterInstance.ephemeral() as other:
        assert run_assets(other, *DAILY[:4], day=FIRST).success
        assert run_assets(other, *DAILY, days=(week[0], week[-1])).success
    found = files(settings.store)
    # Stand-ins for the late frames of March 14 remain in the folder, but no ledger lists them.
    for channel in ("0171", "1700"):
        del found[f"raw/2024/03/14/AIA20240314_1158_{channel}.fits"]
    assert found == files(str(clean))
