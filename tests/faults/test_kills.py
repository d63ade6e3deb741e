"""Killed runs and simultaneous runs produce the same store."""

import random
import shutil
from pathlib import Path

import pytest

from sdoml_demo.server import Archive
from tests.faults.kill_campaign import SMALL, STAGES, Runner, snapshot


@pytest.fixture
def variables(archive: Archive) -> dict[str, str]:
    roots = {"SDOML_AIA_ROOTS": archive.aia_root, "SDOML_HMI_ROOTS": archive.hmi_root}
    tiny = {
        "SDOML_RESOLUTION": "64",
        "SDOML_CADENCE_MINUTES": "360",
        "SDOML_CHANNELS": "AIA_0171,AIA_1700,HMI_M",
    }
    return SMALL | roots | tiny


def test_rerun_after_sigkill_produces_the_same_bytes(
    variables: dict[str, str], tmp_path: Path
) -> None:
    with Runner(variables | {"SDOML_STORE": str(tmp_path / "store")}) as runner:
        runner.run()
        durations = runner.measure()
        expected = snapshot(runner.store)
        moments = random.Random(1)
        for stage in STAGES:
            shutil.rmtree(runner.store)
            runner.kill(stage, moments.uniform(0, durations[stage]))
            runner.run()
            assert snapshot(runner.store) == expected


def test_two_processes_can_build_the_same_day_concurrently(
    variables: dict[str, str], tmp_path: Path
) -> None:
    environment = variables | {"SDOML_STORE": str(tmp_path / "store")}
    with Runner(environment) as one, Runner(environment) as other:
        one.run()
        expected = snapshot(one.store)
        for _ in range(2):
            shutil.rmtree(one.store)
            one.start()
            other.start()
            assert (one.finish(), other.finish()) == (0, 0)
            assert snapshot(one.store) == expected
