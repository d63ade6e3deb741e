"""Compact frames: accurate to half a step, readable by astropy, and safe if damaged."""

import hashlib
import io
import warnings

import numpy as np
import pytest
from astropy.io import fits

from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.compact import (
    HEADER_BYTES,
    RECORD,
    compact_header,
    decode_compact,
    encode_compact,
    frame_of_data,
    parse_compact_header,
)
from sdoml_core.formats.encoding import EncodedFrame


def pixels(side: int = 64, seed: int = 0) -> np.ndarray:
    """Return a noisy disk in [0, 1] with zeros around it and some saturated pixels."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    noise = np.random.default_rng(seed).normal(0.5, 0.1, (side, side))
    frame = np.where(np.hypot(x, y) < 0.4 * side, noise, 0)
    frame[side // 2, side // 2 :] = 1
    return np.clip(frame, 0, 1).astype(np.float32)


def member(frame: EncodedFrame) -> bytes:
    return frame.header + bytes(frame.data) + bytes(frame.padding)


def decoded(frame: EncodedFrame) -> np.ndarray:
    out = np.empty((frame.resolution, frame.resolution), np.float32)
    return decode_compact(frame.data, frame.step, out)


@pytest.mark.parametrize("steps", [1, 7, 1023, 65_537, 1 << 22])
@pytest.mark.parametrize("side", [16, 64, 512])
def test_pixels_round_trip_within_half_a_step(steps, side):
    frame = pixels(side)
    again = decoded(encode_compact(frame, steps, "compact"))
    # The product of the step and an integer is rounded to float32.
    limit = 0.5 / steps + np.spacing(np.float32(1)) / 2
    assert np.abs(again.astype(np.float64) - frame).max() <= limit
    assert again.max() <= 1
    np.testing.assert_array_equal(again[frame == 0], 0)
    np.testing.assert_array_equal(again[frame == 1], 1)


def test_encoding_is_idempotent():
    once = encode_compact(pixels(), 1000, "compact")
    assert member(encode_compact(decoded(once), 1000, "compact")) == member(once)


def test_bytes_match_the_recorded_hash():
    # If this hash changes, so does every published compact shard. That needs a new format version.
    frame = np.arange(256, dtype=np.float32).reshape(16, 16) / 255
    digest = hashlib.sha256(member(encode_compact(frame, 1000, "compact"))).hexdigest()
    assert digest == "05053cc7817909dad57745e3a7f3783a350f0fdd9a4dfaf53b9bd31c54d7eb27"


@pytest.mark.parametrize("levels", [255, 1785, 4335])
def test_hmi_source_levels_are_exact(levels):
    exact = np.arange(256, dtype=np.float32).reshape(16, 16) / np.float32(255)
    np.testing.assert_array_equal(decoded(encode_compact(exact, levels, "compact")), exact)


@pytest.mark.parametrize("side", [16, 128])
def test_astropy_reads_the_same_values(side):
    frame = encode_compact(pixels(side), 777, "compact")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(io.BytesIO(member(frame))) as hdus:
            hdus.verify("exception")
            read = np.array(hdus[1].data)
    np.testing.assert_array_equal(read.astype(np.float32), decoded(frame))
    assert len(member(frame)) == frame.size
    assert frame.size % RECORD == 0


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((16, 32), np.float32),
        np.zeros((8, 8), np.float32),
        np.zeros((0, 0), np.float32),
        np.full((16, 16), np.nan, np.float32),
        np.full((16, 16), -1e-3, np.float32),
        np.full((16, 16), 1.001, np.float32),
    ],
)
def test_invalid_frames_are_rejected(wrong):
    with pytest.raises(ValueError, match="a compact frame"):
        encode_compact(wrong, 100, "compact")


@pytest.mark.parametrize("steps", [0, 1 << 23])
def test_invalid_step_counts_are_rejected(steps):
    with pytest.raises(ValueError, match="steps, not"):
        encode_compact(pixels(16), steps, "compact")


def test_headers_contain_resolution_step_and_size():
    frame = encode_compact(pixels(), 1023, "compact")
    found = parse_compact_header("x.fits", member(frame)[:HEADER_BYTES], frame.size)
    assert found == (64, 1 / 1023, len(frame.data))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"RICE_1", b"GZIP_1"),
        (b"ZBITPIX =                   32", b"ZBITPIX =                   16"),
        (b"ZNAXIS1 =                   64", b"ZNAXIS1 =                   63"),
        (b"ZNAXIS2 =                   64", b"ZNAXIS2 =                   80"),
        (b"BSCALE  = 0.00", b"BSCALE  = 9.00"),
        (b"BSCALE  = 0.00", b"BSCALE  = 0.-0"),
        (b"BSCALE  = 0.00", b"BSCALE  = 0.E9"),
        (b"BZERO   =                  0.0", b"BZERO   =                  1.0"),
        (b"SIMPLE ", b"SAMPLE "),
        (b"1PB(", b"1PX("),
    ],
)
def test_invalid_headers_are_rejected(old, new):
    frame = encode_compact(pixels(), 1023, "compact")
    changed = frame.header.replace(old, new)
    assert changed != frame.header
    with pytest.raises(DamagedFileError, match="not a compact FITS file"):
        parse_compact_header("x.fits", changed, frame.size)


def test_wrong_size_is_rejected():
    frame = encode_compact(pixels(), 1023, "compact")
    with pytest.raises(DamagedFileError, match="does not match"):
        parse_compact_header("x.fits", frame.header, frame.size + RECORD)
    with pytest.raises(DamagedFileError, match="not a compact FITS file"):
        parse_compact_header("x.fits", frame.header[:-1], frame.size)


def test_damaged_data_never_crashes_the_decoder():
    data = bytes(encode_compact(pixels(), 1023, "compact").data)
    random = np.random.default_rng(5)
    out = np.empty((64, 64), np.float32)
    outcomes = set()
    for _ in range(400):
        damaged = bytearray(data)
        for place in random.integers(0, len(data), random.integers(1, 9)):
            damaged[place] = random.choice([0, 255, random.integers(256)])
        try:
            decode_compact(bytes(damaged[: random.integers(1, len(data) + 1)]), 1 / 1023, out)
            outcomes.add("decoded")
        except DamagedFileError:
            outcomes.add("refused")
    assert "refused" in outcomes
    for cut in (0, 1, 127, 128, len(data) - 1):
        with pytest.raises(DamagedFileError):
            decode_compact(data[:cut], 1 / 1023, out)
    with pytest.raises(DamagedFileError, match="compressed tile"):
        decode_compact(data, 1 / 1023, np.empty((80, 80), np.float32))
    with pytest.raises(DamagedFileError, match="must be a multiple of 16, not 8"):
        decode_compact(data, 1 / 1023, np.empty((8, 8), np.float32))


def test_frame_with_damaged_data_is_rejected():
    with pytest.raises(DamagedFileError, match="tile table of a compact frame"):
        frame_of_data(bytes(500), resolution=16, step=0.1, encoding="compact")


def test_header_has_two_records():
    assert len(compact_header(64, 1e-5, heap=1, longest=1)) == HEADER_BYTES
