"""AIA frames: header values, reasons for rejection, and NaN pixels."""

import dataclasses
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.errors import (
    BlankFrameError,
    CorruptFrameError,
    FrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)
from sdoml_core.frames.aia import AiaFrame, decode_aia, process_aia
from sdoml_core.frames.quality import SHORTEST_EXPOSURE, quality_reason

REAL = (Path(__file__).parents[3] / "sdoml_demo/data/AIA20180820_1248_0193.fits").read_bytes()
BARE = REAL.replace(b"CHECKSUM=", b"CHECKXXX=").replace(b"DATASUM =", b"DATAXXX =")


def with_card(key: str, value: str | None) -> bytes:
    """Return the real file without checksums, with one card changed or removed."""
    start = BARE.index(f"{key:8}=".encode())
    card = f"{key:8}= {value}" if value is not None else "COMMENT"
    return BARE[:start] + card.encode().ljust(80) + BARE[start + 80 :]


@pytest.fixture(scope="module")
def real_frame() -> AiaFrame:
    return decode_aia(REAL)


def frame_of(image: NDArray[np.floating], **facts: float) -> AiaFrame:
    return AiaFrame(
        image=image.astype(np.float32),
        observed=datetime(2022, 11, 1, tzinfo=UTC),
        wavelength=193,
        exposure=facts.get("exposure", 2.0),
        quality=0,
        rsun_obs=facts.get("rsun_obs", 960.0),
        missing=int(np.isnan(image).sum()),
    )


def test_metadata_of_the_real_frame_is_read(real_frame: AiaFrame) -> None:
    assert real_frame.observed == datetime(2018, 8, 20, 12, 48, 4, 840_000, tzinfo=UTC)
    assert real_frame.wavelength == 193
    assert real_frame.exposure == 2.000056
    assert real_frame.quality == 0
    assert real_frame.rsun_obs == 948.410050
    assert real_frame.missing == 0
    assert real_frame.image.shape == (1024, 1024)
    assert real_frame.image.dtype == np.float32

    assert 20 < np.median(real_frame.image) < 200
    assert 0.01 < (real_frame.image <= 0).mean() < 0.05


def test_time_falls_back_to_t_obs() -> None:
    expected = datetime(2018, 8, 20, 12, 48, 5, 840_000, tzinfo=UTC)
    assert decode_aia(with_card("DATE-OBS", None)).observed == expected
    assert decode_aia(with_card("DATE-OBS", "nan")).observed == expected


@pytest.mark.parametrize("key", ["DATE-OBS", "T_OBS"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'2016-12-31T23:59:60.25'", datetime(2017, 1, 1, 0, 0, 0, 250_000, tzinfo=UTC)),
        ("'2016-12-31T23:59:60Z'", datetime(2017, 1, 1, tzinfo=UTC)),
        ("'2016-12-31T23:59:59.99Z'", datetime(2016, 12, 31, 23, 59, 59, 990_000, tzinfo=UTC)),
    ],
)
def test_time_within_a_leap_second_is_accepted(key: str, text: str, expected: datetime) -> None:
    data = with_card(key, text)
    if key == "T_OBS":
        data = data.replace(b"DATE-OBS=", b"DATE-XXX=")
    assert decode_aia(data).observed == expected


@pytest.mark.parametrize("key", ["WAVELNTH", "EXPTIME", "QUALITY", "RSUN_OBS"])
@pytest.mark.parametrize("value", [None, "nan", "-nan", "inf", "'none'", ""])
def test_error_names_a_missing_or_invalid_required_card(key: str, value: str | None) -> None:
    with pytest.raises(CorruptFrameError, match=f"{key} is "):
        decode_aia(with_card(key, value))


@pytest.mark.parametrize("key", ["WAVELNTH", "QUALITY"])
def test_fractional_integer_card_is_rejected(key: str) -> None:
    with pytest.raises(CorruptFrameError, match=rf"^{key} is 193\.5, not a whole number$"):
        decode_aia(with_card(key, "193.5"))
    decode_aia(with_card(key, "193.0"))


def test_error_for_a_frame_without_a_time_names_both_cards() -> None:
    data = with_card("DATE-OBS", "'yesterday'").replace(b"T_OBS   =", b"T_XXX   =")
    with pytest.raises(CorruptFrameError, match="DATE-OBS is yesterday, T_OBS is missing"):
        decode_aia(data)


@pytest.mark.parametrize("value", ["0.0", "-948.4", "15.8", "1e30"])
def test_impossible_solar_radius_is_rejected(value: str) -> None:
    with pytest.raises(CorruptFrameError, match="RSUN_OBS"):
        decode_aia(with_card("RSUN_OBS", value))


def test_bad_quality_is_recorded_without_an_error() -> None:
    assert decode_aia(with_card("QUALITY", "8192")).quality == 8192
    assert decode_aia(with_card("QUALITY", "-2147483648")).quality == -(2**31)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotAnImageError),
        (b"<!DOCTYPE html><title>503</title>", NotAnImageError),
        (REAL[:600_000], TruncatedFrameError),
        (REAL[:2880], TruncatedFrameError),
        (with_card("ZNAXIS1", "2048"), WrongFrameError),
    ],
)
def test_bytes_that_are_not_a_frame_are_rejected(data: bytes, error: type[FrameError]) -> None:
    with pytest.raises(error):
        decode_aia(data)


def test_damage_without_checksums_raises_only_frame_errors() -> None:
    random = np.random.default_rng(4)
    for _ in range(60):
        damaged = bytearray(BARE)
        for position in random.integers(0, len(BARE), 3):
            damaged[position] = random.integers(256)
        for position in random.integers(2880, 20160, 2):
            damaged[position] = random.integers(256)
        try:
            frame = decode_aia(bytes(damaged))
            process_aia(frame, resolution=256, degradation=1.0)
        except FrameError:
            continue


@pytest.mark.parametrize("quality", [0, 1 << 30])
def test_good_quality_has_no_reason(quality: int) -> None:
    assert quality_reason(quality) is None


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        (1 << 12, ["science pointing", "bit 12"]),
        (1 << 13, ["eclipse", "bit 13"]),
        (1 << 14, ["sun presence"]),
        (1 << 15, ["safe mode"]),
        (1 << 16, ["dark"]),
        (1 << 17, ["loop open"]),
        (1 << 18, ["calibration"]),
        (1 << 27, ["bit 27"]),
        (-(2**31), ["not available", "bit 31", "0x80000000"]),
        (1 << 31, ["not available", "bit 31"]),
        ((1 << 30) | (1 << 8) | (1 << 9), ["pixels missing", "bit 8", "bit 9", "near-real-time"]),
    ],
)
def test_reason_for_bad_quality_names_the_bits(quality: int, words: list[str]) -> None:
    reason = quality_reason(quality)
    assert reason is not None
    for word in words:
        assert word in reason


def test_pixels_are_divided_by_exposure_and_degradation(real_frame: AiaFrame) -> None:
    plain = process_aia(real_frame, resolution=256, degradation=1.0)
    halved = process_aia(real_frame, resolution=256, degradation=2.0)
    longer = process_aia(
        dataclasses.replace(real_frame, exposure=4 * real_frame.exposure),
        resolution=256,
        degradation=1.0,
    )
    np.testing.assert_array_equal(halved * 2, plain)
    np.testing.assert_array_equal(longer * 4, plain)


@pytest.mark.parametrize("exposure", [0.0, -1.0])
def test_nonpositive_exposure_is_rejected(exposure: float) -> None:
    image = np.ones((1024, 1024))
    with pytest.raises(CorruptFrameError, match=r"EXPTIME is .* not above 0"):
        process_aia(frame_of(image, exposure=exposure), resolution=64, degradation=1.0)


@pytest.mark.parametrize("exposure", [0.0, -1.0, 0.005])
def test_short_exposures_are_clamped_for_parity_with_the_original(exposure: float) -> None:
    image = np.ones((1024, 1024))
    result = process_aia(
        frame_of(image, exposure=exposure),
        resolution=64,
        degradation=1.0,
        shortest_exposure=SHORTEST_EXPOSURE,
    )
    np.testing.assert_allclose(result, 256 / 0.01, rtol=1e-6)


@pytest.mark.parametrize("degradation", [0.0, -0.5, float("nan"), float("inf")])
def test_impossible_degradation_is_rejected(real_frame: AiaFrame, degradation: float) -> None:
    with pytest.raises(ValueError, match="degradation"):
        process_aia(real_frame, resolution=256, degradation=degradation)


def test_dark_frame_is_blank() -> None:
    with pytest.raises(BlankFrameError, match="above 0"):
        process_aia(frame_of(np.full((1024, 1024), -1.0)), resolution=512, degradation=1.0)


def test_registered_frame_is_unchanged_since_version_0_1_0() -> None:
    """The hash was computed with version 0.1.0, which ignored the pointing."""
    processed = process_aia(decode_aia(REAL), resolution=512, degradation=0.632666)
    assert hashlib.sha256(processed.tobytes()).hexdigest() == (
        "ad8b5c0eb3e3ab8d8a711b7786b0de0d70821ba920045aafef2b085f6094ed3c"
    )


def test_result_does_not_depend_on_the_thread_count() -> None:
    def whole(_: int) -> bytes:
        return process_aia(decode_aia(REAL), resolution=512, degradation=0.63).tobytes()

    alone = whole(0)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(whole, range(24))) == {alone}
