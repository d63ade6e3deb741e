"""World coordinates: the limb that sunpy computes must match the limb in processed frames."""

import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from sdoml_core.ephemeris import heliographic_latitude
from sdoml_core.frames.aia import AiaFrame, decode_aia, process_aia
from sdoml_core.frames.grid import GEOMETRIC_SCALE, PIXEL, samples_per_pixel
from sdoml_core.frames.hmi import process_hmi
from sdoml_core.wcs import frame_header
from tests.support.sunpy_maps import sunpy_map

REAL = Path(__file__).parents[2] / "sdoml_demo/data/AIA20180820_1248_0193.fits"
DATES = [datetime(2024, month, 4, 12, tzinfo=UTC) for month in (1, 4, 7, 10)]
RADII = [975.3, 959.0, 943.9, 958.6]


def disk(radius: float) -> NDArray[np.float32]:
    """Return a uniform solar disk with a limb that is one pixel wide.

    The sky is not completely dark, because processing dims pixels next to dark ones.
    """
    y, x = np.mgrid[:1024, :1024]
    distance = np.hypot(y - 511.5, x - 511.5)
    return np.clip(radius - distance + 0.5, 1e-6, 1).astype(np.float32)


def measured_limb(image: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the radius and center (column, row) of the half-brightness circle, in pixels."""
    light = image.astype(np.float64) / np.median(image[image > image.max() / 2])
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    total = light.sum()
    return (
        float(np.sqrt(total / np.pi)),
        float((light * x).sum() / total),
        float((light * y).sum() / total),
    )


def drawn_limb(solar_map: Any) -> tuple[float, float, float]:
    """Return the radius and center of the limb that sunpy computes from the header."""
    from sunpy.coordinates.utils import get_limb_coordinates

    limb = get_limb_coordinates(solar_map.observer_coordinate, rsun=solar_map.rsun_meters)
    x, y = (axis.value for axis in solar_map.world_to_pixel(limb))
    center = float((x.max() + x.min()) / 2), float((y.max() + y.min()) / 2)
    return float(np.hypot(x - center[0], y - center[1]).mean()), *center


@pytest.mark.parametrize("resolution", [1024, 512, 256])
@pytest.mark.parametrize(("date", "rsun_obs"), list(zip(DATES, RADII, strict=True)))
def test_sunpy_limb_matches_the_aia_image(date: datetime, rsun_obs: float, resolution: int) -> None:
    frame = AiaFrame(disk(rsun_obs / 2.4), date, 193, 1.0, 0, rsun_obs, 0)
    image = process_aia(frame, resolution=resolution, degradation=1.0)
    header = frame_header("AIA_0193", resolution=resolution, observed=date, rsun_obs=rsun_obs)
    solar_map = sunpy_map(image[::-1], header)
    drawn = drawn_limb(solar_map)
    assert drawn == pytest.approx(measured_limb(image[::-1]), abs=0.05)
    assert drawn[0] == pytest.approx(976 / 2.4 * resolution / 1024, abs=0.02)
    assert solar_map.rsun_obs.to_value("arcsec") == pytest.approx(rsun_obs)


@pytest.mark.parametrize("scale", [GEOMETRIC_SCALE, 0.85])
@pytest.mark.parametrize("resolution", [1024, 256])
def test_sunpy_limb_matches_the_hmi_image(scale: float, resolution: int) -> None:
    date, rsun_obs = DATES[2], RADII[2]
    gray = np.round(disk(rsun_obs / (GEOMETRIC_SCALE * PIXEL)) * 200).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, axis=2)
    image = process_hmi(rgb, resolution=resolution, rsun_obs=rsun_obs, scale=scale)
    header = frame_header(
        "HMI_M", resolution=resolution, observed=date, rsun_obs=rsun_obs, hmi_scale=scale
    )
    solar_map = sunpy_map(image[::-1], header)
    assert drawn_limb(solar_map) == pytest.approx(measured_limb(image[::-1]), abs=0.05)
    assert solar_map.observatory == "SDO"
    assert solar_map.measurement == "magnetogram"


@pytest.mark.parametrize("resolution", [1024, 512, 64])
def test_bunit_and_sample_count_restore_the_raw_brightness(resolution: int) -> None:
    """At every resolution, the unit is DN/s per camera pixel.

    A raw pixel is the mean of several camera pixels.
    """
    frame = decode_aia(REAL.read_bytes())
    image = process_aia(frame, resolution=resolution, degradation=1.0)
    header = frame_header(
        "AIA_0193", resolution=resolution, observed=frame.observed, rsun_obs=frame.rsun_obs
    )
    solar_map = sunpy_map(image[::-1] / samples_per_pixel(resolution), header)
    assert solar_map.unit == u.DN / u.pix / u.s
    middle = np.s_[resolution // 4 : 3 * resolution // 4, resolution // 4 : 3 * resolution // 4]
    scale = 976 / frame.rsun_obs
    y, x = np.abs(np.mgrid[:1024, :1024] - 511.5)
    same = frame.image[np.maximum(y, x) < 256 / scale] / frame.exposure
    assert solar_map.data[middle].mean() == pytest.approx(same.mean(), rel=0.01)


def test_north_and_west_match_the_sky() -> None:
    """Draw a spot in the solar northwest of the raw frame (row 0 is south, column 0 is east)."""
    raw = np.full((1024, 1024), 0.01, np.float32)
    raw[511 + 200, 511 + 100] = 100
    frame = AiaFrame(raw, DATES[0], 171, 1.0, 0, 976.0, 0)
    image = process_aia(frame, resolution=1024, degradation=1.0)
    header = frame_header("AIA_0171", resolution=1024, observed=DATES[0], rsun_obs=976.0)
    row, column = np.unravel_index(image[::-1].argmax(), image.shape)
    place = sunpy_map(image[::-1], header).pixel_to_world(column * u.pix, row * u.pix)
    assert place.Tx.to_value("arcsec") == pytest.approx(99.5 * 2.4, abs=1.3)
    assert place.Ty.to_value("arcsec") == pytest.approx(199.5 * 2.4, abs=1.3)


def test_raw_and_processed_frames_show_features_at_the_same_coordinates() -> None:
    frame = decode_aia(REAL.read_bytes())
    image = process_aia(frame, resolution=512, degradation=1.0)
    header = frame_header(
        "AIA_0193", resolution=512, observed=frame.observed, rsun_obs=frame.rsun_obs
    )
    processed = sunpy_map(image[::-1].copy(), header)
    assert processed.wavelength == 193 * u.angstrom
    assert processed.unit == u.Unit("DN / (pix s)")

    with fits.open(REAL) as hdus:
        cards = hdus[1].header
        # From the original header, compute each processed pixel's position in the original frame.
        grid = np.mgrid[:512, :512]
        world = processed.pixel_to_world(grid[1] * u.pix, grid[0] * u.pix)
        column = world.Tx.to_value("arcsec") / cards["CDELT1"] + cards["CRPIX1"] - 1
        row = world.Ty.to_value("arcsec") / cards["CDELT2"] + cards["CRPIX2"] - 1
    from skimage.registration import phase_cross_correlation

    smooth = gaussian_filter(np.nan_to_num(frame.image).astype(np.float64), 1.0)
    expected = map_coordinates(smooth, [row, column], order=1, mode="nearest")
    shift, error, _ = phase_cross_correlation(
        np.sqrt(np.clip(expected, 0, None)),
        np.sqrt(processed.data.astype(np.float64) * frame.exposure),
        upsample_factor=50,
        normalization=None,
    )
    assert np.abs(shift).max() <= 0.04
    assert error < 0.1


@pytest.mark.parametrize("date", DATES)
def test_observer_position_matches_the_sunpy_earth_position(date: datetime) -> None:
    from sunpy.coordinates import sun

    assert heliographic_latitude(date) == pytest.approx(
        sun.B0(date.replace(tzinfo=None)).to_value("deg"), abs=0.005
    )


def test_coordinates_round_trip_through_the_stonyhurst_frame() -> None:
    header = frame_header("AIA_0304", resolution=256, observed=DATES[1], rsun_obs=959.0)
    solar_map = sunpy_map(np.ones((256, 256), np.float32), header)
    center = SkyCoord(0 * u.arcsec, 0 * u.arcsec, frame=solar_map.coordinate_frame)
    ground = center.transform_to("heliographic_stonyhurst")
    assert ground.lon.to_value("deg") == pytest.approx(0, abs=0.01)
    assert ground.lat.to_value("deg") == pytest.approx(heliographic_latitude(DATES[1]), abs=0.01)


def test_unknown_frame_is_rejected() -> None:
    with pytest.raises(ValueError, match="unknown channel 'AIA_0195'; choose from AIA_0094"):
        frame_header("AIA_0195", resolution=512, observed=DATES[0], rsun_obs=960)
    with pytest.raises(ValueError, match="yesterday"):
        frame_header("HMI_M", resolution=512, observed="yesterday", rsun_obs=960)


def test_iso_strings_and_naive_times_are_utc() -> None:
    def header(observed: datetime | str) -> dict[str, str | int | float]:
        return frame_header("AIA_0193", resolution=64, observed=observed, rsun_obs=960)

    aware = header(DATES[0])
    assert header(DATES[0].replace(tzinfo=None)) == aware
    assert header("2024-01-04T12:00:00.000") == aware
    assert header("2024-01-04T13:00:00+01:00") == aware


def test_astropy_reads_the_header_without_a_warning() -> None:
    header = frame_header("AIA_0193", resolution=64, observed=DATES[1], rsun_obs=960)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wcs = WCS(header)
    assert header["MJD-OBS"] == Time(DATES[1]).mjd
    assert wcs.wcs.mjdobs == header["MJD-OBS"]
