"""Processed frames match an independent computation of the original's within float32 rounding."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.ephemeris import solar_radius
from sdoml_core.frames.aia import AiaFrame, decode_aia, process_aia
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.quality import SHORTEST_EXPOSURE
from tests.support.original import original_aia, original_hmi, worst_relative_difference
from tests.support.real_frames import REAL_2014, real_frame

ROOT = Path(__file__).parents[3]
RECONSTRUCTED_HMI = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"

RESOLUTIONS = (1024, 512, 256)


@pytest.fixture(scope="module")
def real_rgb() -> NDArray[np.uint8]:
    return decode_hmi(RECONSTRUCTED_HMI.read_bytes())


def synthetic_frame(seed: int, rsun_obs: float, exposure: float) -> AiaFrame:
    """Return noise around zero with a bright disk and hot pixels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:1024, :1024] - 511.5
    disk = np.hypot(x, y) < rsun_obs / 2.4
    image = random.normal(0, 3, (1024, 1024)) + disk * random.exponential(200, (1024, 1024))
    image[random.random((1024, 1024)) < 1e-4] *= 1000
    image = np.round(image * 16) / 16
    return AiaFrame(
        image=image.astype(np.float32),
        observed=datetime(2022, 11, 1, tzinfo=UTC),
        wavelength=171,
        exposure=exposure,
        quality=0,
        rsun_obs=rsun_obs,
        missing=0,
    )


def assert_parity(frame: AiaFrame, resolution: int, degradation: float) -> None:
    result = process_aia(
        frame,
        resolution=resolution,
        degradation=degradation,
        shortest_exposure=SHORTEST_EXPOSURE,
    )
    reference = original_aia(
        frame.image,
        exposure=frame.exposure,
        rsun_obs=frame.rsun_obs,
        degradation=degradation,
        resolution=resolution,
    )
    assert result.shape == (resolution, resolution)
    assert result.dtype == np.float32
    assert worst_relative_difference(result, reference) <= 1e-6
    assert np.abs(result - reference).max() <= 1e-6 * reference.max()


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_real_aia_frame_matches_the_original(resolution: int) -> None:
    assert_parity(real_frame("193 Å, 2018"), resolution, degradation=0.632666)


@pytest.mark.parametrize("name", REAL_2014)
def test_real_frames_of_all_channels_match_the_original(name: str) -> None:
    assert_parity(real_frame(name), 512, degradation=0.8)


@pytest.mark.parametrize("resolution", [*RESOLUTIONS, 64])
@pytest.mark.parametrize(
    ("rsun_obs", "exposure"), [(943.6, 2.9), (960.0, 0.23), (975.9, 0.001), (976.0, 2.0)]
)
def test_synthetic_aia_frames_match_the_original(
    resolution: int, rsun_obs: float, exposure: float
) -> None:
    assert_parity(synthetic_frame(7, rsun_obs, exposure), resolution, degradation=0.06)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("scale", [0.85, GEOMETRIC_SCALE])
@pytest.mark.parametrize("rsun_obs", [943.6, 948.41, 975.9])
def test_hmi_frame_matches_the_original(
    real_rgb: NDArray[np.uint8], resolution: int, scale: float, rsun_obs: float
) -> None:
    result = process_hmi(real_rgb, resolution=resolution, rsun_obs=rsun_obs, scale=scale)
    reference = original_hmi(real_rgb, rsun_obs=rsun_obs, scale=scale, resolution=resolution)
    assert result.dtype == np.float32
    assert worst_relative_difference(result, reference) <= 1e-6
    assert np.abs(result - reference).max() <= 1e-7


def test_hmi_color_channels_have_equal_weights() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    result = process_hmi(rgb, resolution=512, rsun_obs=960.0, scale=0.85)
    reference = original_hmi(rgb, rsun_obs=960.0, scale=0.85, resolution=512)
    assert np.abs(result - reference).max() <= 1e-7


@pytest.mark.parametrize(
    ("name", "rms", "worst"),
    [
        ("AIA20180820_1248_0193.fits", 2.3e-4, 0.004),
        ("real_2014/AIA20140101_0000_0193.fits", 7.4e-4, 0.013),
    ],
)
def test_hmi_difference_comes_from_the_ephemeris_radius(
    real_rgb: NDArray[np.uint8], name: str, rms: float, worst: float
) -> None:
    """The original uses the paired AIA frame's RSUN_OBS; `docs/migration.md` has these figures."""
    frame = decode_aia((ROOT / "sdoml_demo/data" / name).read_bytes())
    reference = original_hmi(real_rgb, rsun_obs=frame.rsun_obs, scale=0.85, resolution=512)
    rsun_obs = solar_radius(frame.observed)
    result = process_hmi(real_rgb, resolution=512, rsun_obs=rsun_obs, scale=0.85)
    difference = np.abs(result - reference)
    assert np.sqrt((difference**2).mean()) == pytest.approx(rms, rel=0.02)
    assert difference.max() == pytest.approx(worst, rel=0.04)
