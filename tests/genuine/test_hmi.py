"""A genuine HMI quick-look image in the colored rendering."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from sdoml_core.ephemeris import solar_radius
from sdoml_core.errors import WrongFrameError
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.judge_hmi import inspect_hmi
from sdoml_core.frames.limb import measure_disk


def test_real_colored_quicklook_image_is_rejected_despite_a_correct_disk(
    genuine: Path,
) -> None:
    data = (genuine / "hmi_20200207_201500_TAI_quicklook_color_1k.jpg").read_bytes()
    rsun_obs = solar_radius(datetime(2020, 2, 7, 20, 14, 23, tzinfo=UTC))
    with pytest.raises(WrongFrameError, match="in color"):
        inspect_hmi(data, rsun_obs=rsun_obs)
    processed = process_hmi(
        decode_hmi(data), resolution=512, rsun_obs=rsun_obs, scale=GEOMETRIC_SCALE
    )
    disk = measure_disk(processed)
    assert disk is not None
    assert disk.radius == pytest.approx(203.44, abs=0.005)
    assert abs(disk.x) < 0.05
    assert abs(disk.y) < 0.05
    assert not processed[494:, :190].any(), "the label must be masked"
