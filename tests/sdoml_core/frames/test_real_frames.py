"""Real AIA frames are decoded exactly, have no flags, and are centered."""

import warnings

import numpy as np
import pytest
from astropy.io import fits

from sdoml_core.ephemeris import solar_radius
from sdoml_core.frames.aia import process_aia
from sdoml_core.frames.grid import DISK_RADIUS
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.frames.limb import measure_disk
from tests.support.real_frames import REAL_2014, REAL_FRAMES, real_frame

each = pytest.mark.parametrize("name", REAL_FRAMES)


@each
def test_pixels_match_astropy(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        with fits.open(REAL_FRAMES[name]) as hdus:
            expected = np.array(hdus[1].data)
    np.testing.assert_array_equal(real_frame(name).image, expected)


@each
def test_headers_describe_the_frames(name: str) -> None:
    frame = real_frame(name)
    assert frame.wavelength == int(name.partition(" ")[0])
    assert str(frame.observed.date())[:4] == ("2013" if name.startswith("211") else name[-4:])
    assert frame.exposure == pytest.approx(2.0 if frame.wavelength in {171, 193} else 2.9, abs=0.01)
    assert (frame.quality, frame.missing) == (0, 0)
    assert frame.rsun_obs == pytest.approx(float(solar_radius(frame.observed)), abs=0.15)


@each
def test_real_frames_have_no_flags(name: str) -> None:
    judgment = judge_aia(real_frame(name), max_missing_fraction=0.01)
    assert judgment.flaw is None
    assert judgment.flags == ()


@each
def test_disk_is_centered_and_corona_fades_above_the_limb(name: str) -> None:
    frame = process_aia(real_frame(name), resolution=512, degradation=1.0)
    disk = measure_disk(frame, finest=128)
    assert disk is not None
    assert disk.offset < 0.5
    assert 1.02 < disk.radius / (DISK_RADIUS * 512) < 1.06


@pytest.mark.parametrize("name", REAL_2014)
def test_channels_differ_in_brightness_within_the_same_minute(name: str) -> None:
    disk = real_frame(name).image[312:712, 312:712]
    # Quiet-Sun levels in DN, measured in the six frames. They reveal swapped channels.
    expected = {94: 2.0, 131: 9.3, 171: 210.0, 193: 300.0, 211: 150.0, 335: 4.1}
    assert float(np.median(disk)) == pytest.approx(expected[int(name.partition(" ")[0])], rel=0.15)
