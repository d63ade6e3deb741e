"""Small pointing offsets from a registered frame are corrected, and large ones are rejected."""

import dataclasses
import math
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter

from sdoml_core.ephemeris import solar_radius
from sdoml_core.errors import BadQualityError, CorruptFrameError
from sdoml_core.frames.aia import AiaFrame, decode_aia, process_aia
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.frames.limb import measure_disk
from sdoml_core.frames.pointing import MIDDLE, Pointing, radius_reason
from sdoml_core.frames.resample import Warp, sum_blocks
from tests.support.aia_file import REAL, REAL_2014, with_cards

REGISTERED_FRAME = decode_aia(REAL)


def displaced(pointing: Pointing) -> NDArray[np.float32]:
    """Return the smoothed real frame as a telescope with a different pointing would see it."""
    image = gaussian_filter(REGISTERED_FRAME.image.astype(np.float64), 2)
    angle, zoom = math.radians(pointing.roll), pointing.pixel / 2.4
    cosine, sine = math.cos(angle), math.sin(angle)
    # Pixel (row, column) in the new frame shows this position in the registered frame.
    matrix = zoom * np.array([[cosine, sine], [-sine, cosine]])
    offset = MIDDLE - matrix @ np.array([pointing.y, pointing.x])
    moved = affine_transform(image, matrix, offset, order=3, mode="nearest")
    return np.maximum(moved, 0.01).astype(np.float32)


POINTINGS = [
    Pointing(x=MIDDLE + 7.3, y=MIDDLE - 4.6),
    Pointing(pixel=2.46),
    Pointing(roll=0.8),
    Pointing(x=MIDDLE - 3.25, y=MIDDLE + 8.5, pixel=2.36, roll=-0.6),
]


@pytest.mark.parametrize("pointing", POINTINGS)
def test_unregistered_frame_is_corrected(pointing: Pointing) -> None:
    registered = dataclasses.replace(REGISTERED_FRAME, image=displaced(Pointing()))
    frame = dataclasses.replace(REGISTERED_FRAME, image=displaced(pointing), pointing=pointing)
    expected = process_aia(registered, resolution=512, degradation=1.0)
    corrected = process_aia(frame, resolution=512, degradation=1.0)
    inner = np.s_[20:-20, 20:-20]  # the displaced frame lacks some of the edges
    assert np.median(np.abs(corrected / expected - 1)[inner]) < 0.003
    ignored = dataclasses.replace(frame, pointing=Pointing())
    wrong = process_aia(ignored, resolution=512, degradation=1.0)
    assert np.median(np.abs(wrong / expected - 1)[inner]) > 0.02


@pytest.mark.parametrize("pointing", POINTINGS)
def test_corrected_frame_is_flagged_and_centered(pointing: Pointing) -> None:
    frame = dataclasses.replace(REGISTERED_FRAME, image=displaced(pointing), pointing=pointing)
    judgment = judge_aia(frame, max_missing_fraction=0.05)
    assert judgment.flaw is None
    assert judgment.flags == ("pointing_corrected",)
    disk = measure_disk(process_aia(frame, resolution=512, degradation=1.0), finest=128)
    assert disk is not None
    assert disk.offset < 0.5


def test_rolled_kernel_at_0_degrees_matches_the_separable_kernel() -> None:
    image = REGISTERED_FRAME.image.copy()
    image[200:260, 300:340] = np.nan
    warp = Warp(1.0291, shift_x=3.2, shift_y=-1.7)
    options = {"resolution": 256, "divisor": 1.3, "complete": False}
    separable = sum_blocks(image, warp=warp, **options)
    rolled = sum_blocks(image, warp=dataclasses.replace(warp, roll=1e-9), **options)
    np.testing.assert_allclose(rolled, separable, rtol=1e-5, atol=1e-5 * separable.max())


def test_rolled_kernel_at_180_degrees_flips_the_image() -> None:
    image = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    options = {"resolution": 64, "divisor": 1.0, "complete": True}
    # The kernel rotates about pixel N/2, but a flip is about (N − 1)/2.
    turned = sum_blocks(image, warp=Warp(1.0, -1.0, -1.0, roll=180.0), **options)
    straight = sum_blocks(image[::-1, ::-1].copy(), warp=Warp(1.0), **options)
    np.testing.assert_allclose(turned, straight, atol=1e-5)


@pytest.mark.parametrize(
    "cards",
    [
        {"CRPIX1": "512.503"},
        {"CDELT1": "2.4000001", "CDELT2": "2.4000001"},
        {"CROTA2": "0.0005"},
        {"CROTA2": None},
        {"CRVAL1": None, "CRVAL2": None},
    ],
)
def test_registered_frame_is_not_corrected(cards: dict[str, str]) -> None:
    frame = decode_aia(with_cards(**cards))
    assert frame.pointing.registered
    np.testing.assert_array_equal(
        process_aia(frame, resolution=256, degradation=1.0),
        process_aia(REGISTERED_FRAME, resolution=256, degradation=1.0),
    )


@pytest.mark.parametrize(
    ("cards", "error", "reason"),
    [
        ({"CROTA2": "180.0"}, BadQualityError, r"rolled by -180\.00°, more than 1° \(CROTA2\)"),
        ({"CROTA2": "-1.2"}, BadQualityError, "rolled by -1.20°"),
        (
            {"CRPIX1": "632.5", "CRPIX2": "552.5"},
            BadQualityError,
            "the Sun 126.5 pixels off center, more than 12.5",
        ),
        ({"CRVAL1": "-288.0"}, BadQualityError, "120.0 pixels off center"),
        ({"CDELT1": "1.2", "CDELT2": "1.2"}, BadQualityError, "pixels of 1.2″ differ from 2.4″"),
        ({"RSUN_OBS": "975.9"}, CorruptFrameError, "RSUN_OBS is 975.90″, but .* 948.4"),
        ({"RSUN_OBS": "1000.0"}, CorruptFrameError, "RSUN_OBS is 1000.00″"),
    ],
)
def test_pointing_beyond_the_tolerances_is_rejected(
    cards: dict[str, str], error: type[Exception], reason: str
) -> None:
    flaw = judge_aia(decode_aia(with_cards(**cards)), max_missing_fraction=0.05).flaw
    assert type(flaw) is error
    with pytest.raises(error, match=reason):
        raise flaw


@pytest.mark.parametrize("key", ["CRPIX1", "CRPIX2", "CDELT1", "CDELT2", "CROTA2", "CRVAL1"])
@pytest.mark.parametrize("value", ["nan", "'none'"])
def test_error_names_the_invalid_pointing_card(key: str, value: str) -> None:
    with pytest.raises(CorruptFrameError, match=f"{key} is "):
        decode_aia(with_cards(**{key: value}))


def test_nonsquare_pixels_are_rejected() -> None:
    with pytest.raises(CorruptFrameError, match=r"2.4″ × 2.5″ are not square"):
        decode_aia(with_cards(CDELT2="2.5"))


def test_crval_offset_is_rotated_by_the_roll() -> None:
    """By the formula in the FITS standard, the Sun's center is at world coordinates (0, 0)."""
    frame = decode_aia(with_cards(CRVAL1="-12.0", CRVAL2="7.2", CROTA2="0.9"))
    angle = math.radians(0.9)
    column, row = frame.pointing.x - 511.5, frame.pointing.y - 511.5
    east = 2.4 * (column * math.cos(angle) - row * math.sin(angle)) - 12.0
    north = 2.4 * (column * math.sin(angle) + row * math.cos(angle)) + 7.2
    assert (east, north) == pytest.approx((0, 0), abs=1e-9)


def test_real_headers_of_all_seasons_are_accepted() -> None:
    """2014-01-01 is near perihelion, and 2018-08-20 is closer to aphelion."""
    for frame in (REGISTERED_FRAME, *(decode_aia(path.read_bytes()) for path in REAL_2014)):
        assert frame.pointing.registered
        assert radius_reason(frame.rsun_obs, solar_radius(frame.observed)) is None


def test_frame_is_registered_by_default() -> None:
    image = np.ones((1024, 1024), np.float32)
    frame = AiaFrame(image, datetime(2022, 11, 1, tzinfo=UTC), 193, 2.0, 0, 992.0, 0)
    assert frame.pointing.registered
