"""Positions of the limb, point sources and north in processed frames on any date."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.ephemeris import solar_radius
from sdoml_core.frames.aia import AiaFrame, process_aia
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import process_hmi

RADIUS_512 = 976 / 2.4 / 2
"""Radius of the photosphere in a 512 × 512 frame, in pixels. It is the same on every date."""

DATES = [
    datetime(2022, 1, 4, 12, tzinfo=UTC),  # perihelion
    datetime(2022, 4, 3, 6, tzinfo=UTC),
    datetime(2022, 7, 4, 18, tzinfo=UTC),  # aphelion
    datetime(2022, 10, 9, 0, tzinfo=UTC),
]
YEAR = [datetime(2022, 1, 4, tzinfo=UTC) + timedelta(days=30.4 * month) for month in range(12)]


def disk(radius: float, center: float = 511.5) -> NDArray[np.float64]:
    """Return a disk of brightness 1 with anti-aliased edges."""
    y, x = np.mgrid[:1024, :1024] - center
    return np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)


def aia_of(image: NDArray[np.float64], time: datetime) -> AiaFrame:
    return AiaFrame(
        image=image.astype(np.float32),
        observed=time,
        wavelength=1700,
        exposure=1.0,
        quality=0,
        rsun_obs=float(solar_radius(time)),
        missing=0,
    )


def limb(image: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return the radius and center (row, column) of a disk, measured at half brightness."""
    level = np.median(image[200:312, 200:312]) / 2
    size = image.shape[0]
    middle = (size - 1) / 2
    points = []
    for angle in np.radians(np.arange(0, 360, 2)):
        distance = np.arange(150, 253, 0.05)
        row, column = middle + distance * np.sin(angle), middle + distance * np.cos(angle)
        r, c = row.astype(int), column.astype(int)
        f, g = row - r, column - c
        profile = (
            image[r, c] * (1 - f) * (1 - g)
            + image[r + 1, c] * f * (1 - g)
            + image[r, c + 1] * (1 - f) * g
            + image[r + 1, c + 1] * f * g
        )
        at = int((profile < level).argmax())
        points.append((row[at], column[at]))
    rows, columns = np.transpose(points)
    # Fit a circle by least squares: x² + y² = 2ax + 2by + c.
    matrix = np.stack([2 * rows, 2 * columns, np.ones_like(rows)], axis=1)
    a, b, c2 = np.linalg.lstsq(matrix, rows**2 + columns**2, rcond=None)[0]
    return float(np.sqrt(c2 + a**2 + b**2)), float(a), float(b)


def aia_limb(time: datetime) -> tuple[float, float, float]:
    # light beyond the limb, like the corona, keeps the mask away from the edge
    image = 100 * disk(solar_radius(time) / 2.4) + 0.01
    return limb(process_aia(aia_of(image, time), resolution=512, degradation=1.0))


def hmi_limb(time: datetime, scale: float = GEOMETRIC_SCALE) -> tuple[float, float, float]:
    gray = np.round(127 * disk(solar_radius(time) / (4 * 0.5042))).astype(np.uint8)
    rgb = np.repeat(gray[..., None], 3, axis=2)
    return limb(process_hmi(rgb, resolution=512, rsun_obs=solar_radius(time), scale=scale))


def test_hmi_and_aia_limbs_agree_over_a_year() -> None:
    aia = np.array([aia_limb(time) for time in YEAR])
    hmi = np.array([hmi_limb(time) for time in YEAR])
    np.testing.assert_allclose(aia[:, 0], RADIUS_512, atol=0.1)
    np.testing.assert_allclose(hmi[:, 0], RADIUS_512, atol=0.1)
    assert np.abs(aia - hmi).max() < 0.3  # radius and center
    assert np.ptp(aia, axis=0).max() < 0.1
    assert np.ptp(hmi, axis=0).max() < 0.1


def test_original_scale_puts_the_hmi_limb_two_pixels_outside_the_aia_limb() -> None:
    radius = hmi_limb(DATES[0], scale=0.85)[0]
    assert radius - aia_limb(DATES[0])[0] == pytest.approx(2.35, abs=0.15)


@pytest.mark.parametrize("time", DATES, ids=lambda time: f"{time:%Y-%m}")
@pytest.mark.parametrize("fraction", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("instrument", ["AIA", "HMI"])
def test_point_sources_land_at_the_computed_position(
    time: datetime, fraction: float, instrument: str
) -> None:
    angular = solar_radius(time)
    pixel = 2.4 if instrument == "AIA" else 4 * 0.5042
    scale = 976 / angular * (pixel / 2.4)
    for angle in np.radians([20, 155, 283]):
        # positions in solar radii, west and north of the disk's center
        west, north = fraction * np.cos(angle), fraction * np.sin(angle)
        column = 511.5 + west * angular / pixel
        up = north * angular / pixel
        y, x = np.mgrid[:1024, :1024]
        row = 511.5 + up if instrument == "AIA" else 511.5 - up
        point = np.exp(-((x - column) ** 2 + (y - row) ** 2) / (2 * 1.5**2))
        if instrument == "AIA":
            image = process_aia(aia_of(1e4 * point + 1, time), resolution=512, degradation=1.0)
            image -= np.median(image)
        else:
            rgb = np.repeat(np.round(250 * point).astype(np.uint8)[..., None], 3, axis=2)
            image = process_hmi(rgb, resolution=512, rsun_obs=angular, scale=GEOMETRIC_SCALE)
        rows, columns = np.mgrid[:512, :512]
        # Frames are scaled about pixel 512, which is half a pixel from the disk's center.
        shift = 0.5 - 0.5 * scale
        turned = -1 if instrument == "AIA" else 1
        expected_column = (511.5 + shift + west * 976 / 2.4 + 0.5) / 2 - 0.5
        expected_row = (511.5 + turned * shift - north * 976 / 2.4 + 0.5) / 2 - 0.5
        window = np.hypot(rows - expected_row, columns - expected_column) < 9
        weight = np.where(window, image, 0).astype(np.float64)
        assert (rows * weight).sum() / weight.sum() == pytest.approx(expected_row, abs=0.02)
        assert (columns * weight).sum() / weight.sum() == pytest.approx(expected_column, abs=0.02)
        assert abs(shift) < 0.1  # less than a tenth of a pixel at 1024²
