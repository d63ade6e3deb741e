"""The example of docs/live.md: train on a release, then predict near-real-time slots."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sdoml_dagster.release.build import ReleaseRequest, publish
from sdoml_dagster.settings.model import Settings
from sdoml_demo.clock import Clock
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive
from tests.docs.test_docs import ROOT, blocks
from tests.support.day_deployment import Deployment
from tests.support.live import LiveDeployment

CHANNELS = ("AIA_0171", "AIA_0193", "HMI_M")


def scripts() -> dict[str, str]:
    """Return the Python files on the page by name."""
    found = blocks(ROOT / "docs/live.md", "python")
    return {body.split(":")[0].removeprefix("# "): body for body in found}


def launch(name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", name]
    return subprocess.Popen(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(name: str) -> str:
    process = launch(name)
    output, _ = process.communicate(timeout=250)
    assert process.returncode == 0, output
    return output


def wait_for_rows(count: int, process: subprocess.Popen[str]) -> list[dict]:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(process.communicate()[0])
        if Path("forecast.parquet").exists():
            rows = pq.read_table("forecast.parquet").to_pylist()
            if len(rows) >= count:
                return rows
        time.sleep(0.2)
    raise AssertionError("no prediction was written")


@pytest.mark.slow
def test_model_trained_on_a_release_predicts_live_slots(environment, frame_cache, tmp_path):
    for name, body in scripts().items():
        Path(name).write_text(body)
    daily = Settings.load(
        store="data",
        start="2024-03-08",
        end="2024-03-08T02:00",
        cadence_minutes=15,
        channels=CHANNELS,
    )
    deployment = Deployment(daily)
    deployment.build()
    publish(
        ReleaseRequest(), settings=daily, store=deployment.store, report=deployment.lines.append
    )
    finish("train.py")
    # Start ahead of the real time, so that the frames are not too old for the example.
    clock = Clock(datetime.now(UTC).replace(minute=10), speed=0)
    silent = {name: [(datetime(2010, 1, 1, tzinfo=UTC), clock.now())] for name in CHANNELS}
    with Archive(
        cache=frame_cache, absences=False, clock=clock, live=LivePlan(silent=silent)
    ) as archive:
        settings = Settings.load(
            store="data",
            aia_roots=(archive.aia_root,),
            hmi_roots=(archive.hmi_root,),
            channels=CHANNELS,
            cadence_minutes=15,
            live_hours=3,
        )
        live = LiveDeployment(settings, archive)
        live.run(timedelta(minutes=90))
        forecast = launch("forecast.py")
        try:
            first = wait_for_rows(1, forecast)
            live.run(timedelta(minutes=18))
            rows = wait_for_rows(len(first) + 1, forecast)
        finally:
            forecast.kill()
            forecast.communicate()
        assert rows[-1]["slot"] > first[-1]["slot"]
        assert len({row["slot"] for row in rows}) == len(rows)
        assert 0 < rows[-1]["oldest_minutes"] <= 90  # HMI is an hour behind
        said = finish("look.py")
        assert said.startswith(rows[-1]["slot"])
        assert "torch.Size([4, 3, 64, 64])" in said
