"""Genuine AIA files: a near-real-time frame, a truncated download, the V10 response table."""

from datetime import date
from pathlib import Path

import pytest

from sdoml_core.errors import TruncatedFrameError
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import V10_FILE, DegradationTable
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.frames.limb import measure_disk
from tests.support.aiapy_factors import assert_equal_to_aiapy


def test_near_real_time_frame_is_accepted_as_provisional(genuine: Path) -> None:
    frame = decode_aia((genuine / "AIA20260330_204500_1700.fits").read_bytes())
    judgment = judge_aia(frame, max_missing_fraction=0.05)
    assert judgment.flaw is None
    assert judgment.flags == ("provisional",)
    disk = measure_disk(process_aia(frame, resolution=512, degradation=1.0))
    assert disk is not None
    assert disk.radius == pytest.approx(203.80, abs=0.005)
    assert disk.offset < 0.015


def test_truncated_download_is_rejected(genuine: Path) -> None:
    with pytest.raises(TruncatedFrameError, match="32484 bytes, but the header requires 4208704"):
        decode_aia((genuine / "aia20200207_162100_0193.truncated.fits").read_bytes())


def test_version_10_table_matches_aiapy(genuine: Path) -> None:
    path = genuine / V10_FILE
    assert assert_equal_to_aiapy(path).version == "V10"
    table, default = DegradationTable.from_v10(path.read_bytes()), DegradationTable.default()
    day = date(2024, 3, 8)
    ratios = {w: table.factor(day, w) / default.factor(day, w) for w in (94, 193, 211, 335)}
    assert ratios == pytest.approx({94: 0.900, 193: 0.932, 211: 0.899, 335: 1.051}, abs=0.001)
