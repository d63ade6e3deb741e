"""`sdoml live` and the live lines of `sdoml status`, with a simulated archive."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sdoml_core.loader import LiveDataset
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store
from sdoml_demo.clock import Clock
from sdoml_demo.server import Archive
from tests.support.commands import run_module
from tests.support.live import constants_for, settled_plan

pytestmark = pytest.mark.slow  # these tests start commands

CHANNELS = ("AIA_0171", "HMI_M")


@pytest.fixture
def settings(environment, frame_cache, monkeypatch) -> Iterator[Settings]:
    now = datetime.now(UTC)
    clock, plan = Clock(now, speed=0), settled_plan(now)
    with Archive(cache=frame_cache, absences=False, clock=clock, live=plan) as archive:
        monkeypatch.setenv("SDOML_AIA_ROOTS", archive.aia_root)
        monkeypatch.setenv("SDOML_HMI_ROOTS", archive.hmi_root)
        monkeypatch.setenv("SDOML_CADENCE_MINUTES", "30")
        monkeypatch.setenv("SDOML_CHANNELS", ",".join(CHANNELS))
        monkeypatch.setenv("SDOML_AIA_TOLERANCE_MINUTES", "0")
        monkeypatch.setenv("SDOML_LIVE_HOURS", "3")  # leaves room if the hour changes during a test
        yield Settings.load()


def fit(settings):
    freeze(Store(settings.store), constants_for(settings), replace=False)


def test_one_check_publishes_frames_and_status_shows_the_window(settings):
    fit(settings)
    done = run_module("sdoml_dagster.cli", "live", "--once")
    assert done.returncode == 0, done.stderr
    dataset = LiveDataset(f"{settings.store}/live", CHANNELS)
    assert f"live       {len(dataset)} slots from " in done.stdout
    shown = run_module("sdoml_dagster.cli", "status")
    assert shown.returncode == 0, shown.stderr
    newest = dataset.times[-1].item()
    assert f" to {newest:%Y-%m-%d %H:%M}" in shown.stdout
    assert "age        AIA_0171 " in shown.stdout
    assert ", HMI_M " in shown.stdout
    again = run_module("sdoml_dagster.cli", "live", "--once")
    assert (again.returncode, again.stdout) == (0, "")


def test_error_for_missing_constants_says_what_to_do(settings):
    done = run_module("sdoml_dagster.cli", "live", "--once")
    assert done.returncode == 1
    assert "build a few days with sdoml build first" in done.stderr


def test_ctrl_c_ends_the_command_and_the_next_command_continues(settings):
    fit(settings)
    command = [sys.executable, "-W", "ignore", "-m", "sdoml_dagster.cli", "live", "--interval", "9"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("age ") for line in lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert len(LiveDataset(f"{settings.store}/live", CHANNELS))
    assert run_module("sdoml_dagster.cli", "live", "--once").returncode == 0
