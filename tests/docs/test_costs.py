"""The figures in docs/costs.md: shard sizes and the simulated queue."""

import io
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from benchmarks.jsoc_pool import (
    AIA_BYTES,
    DAY_BYTES,
    HMI_BYTES,
    MISSION_DAYS,
    Deployment,
    simulate,
    table,
)
from sdoml_core.channels import CHANNELS
from sdoml_core.formats.shard import FrameFacts, ShardWriter

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/costs.md").read_text(encoding="utf-8")
SIMULATED = (ROOT / "benchmarks/results/jsoc_pool.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("pool", [1, 2, 5])
@pytest.mark.parametrize("workers", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("compute", [5.0, 60.0])
def test_estimate_for_equal_days_matches_the_closed_form(
    workers: int, pool: int, compute: float
) -> None:
    deployment = Deployment(workers, pool, link=math.inf, compute=compute, spread=0)
    fetch = DAY_BYTES / deployment.fetch_rate
    expected = 3600 * min(pool / fetch, workers / (fetch + compute))
    got = simulate(deployment, days=2000).days_per_hour
    assert got == pytest.approx(expected, rel=0.02)


def test_many_workers_are_limited_by_bandwidth() -> None:
    deployment = Deployment(64, 32, link=20e6)
    assert min(deployment.bounds, key=deployment.bounds.__getitem__) == "link"
    assert simulate(deployment).days_per_hour == pytest.approx(3600 * 20e6 / DAY_BYTES, rel=0.02)


@pytest.mark.parametrize("workers", [1, 3, 4, 12])
def test_slowest_component_limits_the_throughput(workers: int) -> None:
    for pool in (1, 2, 4):
        deployment = Deployment(workers, pool, link=12e6)
        bound = 3600 * min(deployment.bounds.values())
        # The mean of 6,000 simulated days may differ from the expected value by up to 1%.
        assert simulate(deployment).days_per_hour < 1.01 * bound


def test_same_seed_produces_the_same_backfill() -> None:
    deployment = Deployment(4)
    first = simulate(deployment, days=200, seed=3)
    assert simulate(deployment, days=200, seed=3) == first
    assert simulate(deployment, days=200, seed=4) != first


def test_workers_wait_if_the_pool_is_full() -> None:
    outcome = simulate(Deployment(64, 2, link=math.inf, spread=0))
    deployment = Deployment(1)
    needed = 2 * (1 + deployment.compute * deployment.fetch_rate / DAY_BYTES)
    assert outcome.pool_busy == pytest.approx(1, abs=0.01)
    assert outcome.waiting == pytest.approx(1 - needed / 64, abs=0.01)


def test_documented_table_matches_the_script_output() -> None:
    assert table() in SIMULATED
    assert f"{MISSION_DAYS:,} days" in PAGE


def test_documented_file_sizes_match_the_real_files() -> None:
    real = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"
    assert real.stat().st_size == HMI_BYTES
    assert f"{AIA_BYTES:,}" in PAGE
    assert f"{DAY_BYTES:,}" in PAGE


@pytest.mark.parametrize(("dtype", "resolution"), [("float32", 64), ("float16", 128)])
def test_documented_formula_predicts_the_shard_size(dtype: str, resolution: int) -> None:
    file = io.BytesIO()
    writer = ShardWriter(file, dtype=dtype)
    pixels = np.zeros((resolution, resolution), dtype)
    for hour in range(24):
        slot = datetime(2024, 3, 8, hour, tzinfo=UTC)
        writer.add(slot, CHANNELS["AIA_0193"], pixels, FrameFacts())
    assert writer.close().bytes == shard_bytes(24, resolution, pixels.itemsize)


def test_documented_sizes_match_the_formula() -> None:
    for resolution in (64, 128, 256, 512, 1024):
        for item in (4, 2):
            assert f"{MISSION_DAYS * shard_bytes(768, resolution, item) / 1e12:.3f}" in PAGE


def shard_bytes(frames: int, resolution: int, item: int) -> int:
    member = 512 + 512 * math.ceil((128 + resolution**2 * item) / 512)
    return 10240 * math.ceil((frames * member + 1024) / 10240)
