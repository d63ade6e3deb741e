"""HMI images that are rejected, flagged or doubtful, and damage that is not detected."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.ephemeris import solar_radius
from sdoml_core.errors import BlankFrameError, CorruptFrameError, FrameError, WrongFrameError
from sdoml_core.frames.grid import GEOMETRIC_SCALE, JPG_PIXEL
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.judge_hmi import HmiFrame, inspect_hmi
from sdoml_core.frames.limb import measure_disk
from sdoml_demo.absences import Condition
from sdoml_demo.render.hmi import render_hmi

ROOT = Path(__file__).parents[3]
RECONSTRUCTED = (ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg").read_bytes()
TAKEN = datetime(2018, 8, 20, 9, tzinfo=UTC)
RSUN_OBS = solar_radius(TAKEN)
RADIUS = RSUN_OBS / JPG_PIXEL


def jpeg(pixels: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()


def gray() -> NDArray[np.uint8]:
    return decode_hmi(RECONSTRUCTED)[..., 0].copy()


def distance(x: float = 0.0, y: float = 0.0) -> NDArray[np.float64]:
    row, column = np.mgrid[:1024, :1024] - 511.5
    return np.asarray(np.hypot(column - x, row - y))


def inspect(data: bytes, rsun_obs: float = RSUN_OBS) -> HmiFrame:
    return inspect_hmi(data, rsun_obs=rsun_obs)


def test_reconstructed_image_is_accepted_and_measured() -> None:
    frame = inspect(RECONSTRUCTED)
    assert frame.flags == ()
    assert frame.doubt is None
    assert frame.visible > 0.999
    assert frame.disk is not None
    assert frame.disk.offset < 0.2
    assert frame.disk.radius == pytest.approx(RADIUS, rel=1e-3)
    measures = frame.measures(resolution=512, rsun_obs=RSUN_OBS, scale=GEOMETRIC_SCALE)
    processed = measure_disk(
        process_hmi(frame.rgb, resolution=512, rsun_obs=RSUN_OBS, scale=GEOMETRIC_SCALE)
    )
    assert processed is not None
    assert measures["radius"] == pytest.approx(processed.radius, abs=0.3)
    assert measures["center_x"] == pytest.approx(processed.x, abs=0.15)
    assert measures["center_y"] == pytest.approx(processed.y, abs=0.15)


@pytest.mark.parametrize("year", [2010, 2012, 2014, 2016, 2019, 2023])
def test_rendered_images_are_accepted_over_a_solar_cycle(year: int) -> None:
    minute = datetime(year, 1 + year % 12, 10, 9, 15, tzinfo=UTC)
    frame = inspect(render_hmi(minute, Condition()), solar_radius(minute))
    assert (frame.flags, frame.doubt) == ((), None)


def test_longer_label_marks_a_provisional_image() -> None:
    minute = datetime(2024, 1, 5, 12, tzinfo=UTC)
    label = Condition(quicklook_label=True)
    frame = inspect(render_hmi(minute, label), solar_radius(minute))
    assert frame.provisional
    assert frame.flags == ("provisional",)


def continuum() -> NDArray[np.float64]:
    """Return a continuum image: a white disk that is darker at the limb."""
    mu = np.sqrt(np.clip(1 - (distance() / RADIUS) ** 2, 0, None))
    picture = np.where(distance() < RADIUS, 230 * (0.4 + 0.6 * mu), 0)
    return np.asarray(picture + np.random.default_rng(0).normal(0, 2, picture.shape) * (mu > 0))


def colored() -> NDArray[np.uint8]:
    """Return a magnetogram with positive fields in blue and negative fields in red."""
    level = gray().astype(int)
    disk = level > 8
    red = np.where(disk, np.clip(127 - 4 * (level - 127), 0, 255), 0)
    blue = np.where(disk, np.clip(127 + 4 * (level - 127), 0, 255), 0)
    return np.stack([red, level, blue], axis=2).astype(np.uint8)


def turned_dark(fraction: float) -> NDArray[np.uint8]:
    picture = gray()
    picture[int(512 - 470 + 940 * (1 - fraction)) : 988] = 0
    return picture


def moved(pixels: int) -> NDArray[np.uint8]:
    picture = gray()
    picture[988:, :400] = 0
    return np.roll(picture, pixels, axis=1)


def disk_without_structure() -> NDArray[np.uint8]:
    return np.where(distance() < RADIUS, 127, 0).astype(np.uint8)


@pytest.mark.parametrize(
    ("picture", "error", "reason"),
    [
        (continuum(), WrongFrameError, "not a magnetogram"),
        (colored(), WrongFrameError, "in color"),
        (np.full((1024, 1024), 127) + np.arange(1024) % 9, WrongFrameError, "sky is not black"),
        (disk_without_structure(), WrongFrameError, "no structure"),
        (turned_dark(0.7), BlankFrameError, "of the disk is not black"),
        (moved(16), WrongFrameError, r"pixels from the middle \(\+1"),
    ],
    ids=["continuum", "colored", "placard", "flat", "dark", "moved"],
)
def test_images_that_are_not_valid_magnetograms_are_rejected(
    picture: NDArray[np.generic], error: type[FrameError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        inspect(jpeg(picture))


def test_image_from_another_season_is_rejected() -> None:
    with pytest.raises(WrongFrameError, match=r"radius of 469\.9 pixels, but 48"):
        inspect(RECONSTRUCTED, solar_radius(datetime(2018, 1, 20, tzinfo=UTC)))


def test_eclipse_or_maneuver_is_flagged() -> None:
    assert inspect(jpeg(turned_dark(0.2))).flags == ("partial_disk",)
    assert "off_center" in inspect(jpeg(moved(5))).flags


def test_image_with_half_a_scan_is_rejected() -> None:
    half = RECONSTRUCTED[: len(RECONSTRUCTED) // 2].rstrip(b"\xff") + b"\xff\xd9"
    with Image.open(io.BytesIO(half)) as picture:  # Pillow fills the missing half without an error
        assert np.asarray(picture).shape == (1024, 1024, 3)
    with pytest.raises(CorruptFrameError):
        inspect(half)


def test_nonblack_sky_makes_a_frame_doubtful() -> None:
    picture = gray()
    picture[64:72, 64:72] = 3
    assert inspect(jpeg(picture)).doubt == "the sky is not exactly black"


def test_isolated_block_makes_a_frame_doubtful() -> None:
    picture = gray().astype(float)
    wave = 110 * np.cos(np.pi * (np.arange(8) + 0.5) * 3 / 8)
    picture[512:520, 512:520] += wave
    assert inspect(jpeg(np.clip(picture, 0, 253))).doubt == "a block is unlike those around it"


@pytest.mark.slow
def test_flipped_bits_are_detected_unless_they_change_only_one_block() -> None:
    """Every flip that changes more than one block is detected.

    Pillow rejects only 1 or 2 of the 200 files.
    """
    random = np.random.default_rng(5)
    truth = decode_hmi(RECONSTRUCTED)
    by_pillow = by_inspection = 0
    for place in random.integers(0, 8 * len(RECONSTRUCTED), 200).tolist():
        flipped = bytearray(RECONSTRUCTED)
        flipped[place // 8] ^= 1 << place % 8
        data = bytes(flipped)
        try:
            with Image.open(io.BytesIO(data)) as picture:
                np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError):
            by_pillow += 1
        try:
            frame = inspect(data)
        except FrameError:
            by_inspection += 1
            continue
        if frame.doubt is not None:  # a second download would reveal the difference
            by_inspection += 1
            continue
        changed = (frame.rgb != truth).any(axis=2).nonzero()
        for axis in changed:
            assert not axis.size or axis.max() // 8 == axis.min() // 8
    print(f"of 200 flipped bits: {by_pillow} found by decoding, {by_inspection} by inspection")
    assert by_inspection >= 70
