"""The RICE_1 decoder, tested with astropy's compressor and with damaged streams."""

import io
import signal
import subprocess
import sys

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdoml_core.fits import rice

Tiles = list[NDArray[np.uint8]]


def compress(image: NDArray[np.integer]) -> Tiles:
    """Return the RICE_1 stream of each row as astropy writes it."""
    hdu = astropy_fits.CompImageHDU(
        image, compression_type="RICE_1", tile_shape=(1, image.shape[1])
    )
    file = io.BytesIO()
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), hdu]).writeto(file)
    file.seek(0)
    with astropy_fits.open(file, disable_image_compression=True) as hdus:
        return [np.array(row, np.uint8) for row in hdus[1].data["COMPRESSED_DATA"]]


def decode(
    tile: NDArray[np.uint8], width: int, bytepix: int, *, following: int = 0, filler: int = 0xA5
) -> tuple[int, NDArray[np.int32]]:
    """Decode a tile that other bytes follow; return the status and the row.

    Check that the decoder does not write beyond the row.
    """
    sentinel = np.int32(-559038737)
    room = np.full(width + 128, sentinel, np.int32)
    bounds = np.array([0, tile.size])
    stream = np.concatenate([tile, np.full(following, filler, np.uint8)])
    status = rice.decode_row(stream, bounds, 32, bytepix, room[64 : 64 + width])
    assert (room[:64] == sentinel).all()
    assert (room[64 + width :] == sentinel).all()
    return status, room[64 : 64 + width]


@st.composite
def images(draw: st.DrawFn) -> NDArray[np.integer]:
    """Draw images whose rows use every code of the format, alone and mixed."""
    dtype = draw(st.sampled_from([np.int16, np.int32]))
    width = draw(st.integers(1, 200))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    limits = np.iinfo(dtype)
    image = np.empty((6, width), np.int64)
    for row in image:
        kind = draw(st.sampled_from(["constant", "noise", "full", "spikes", "blank", "ramp"]))
        level = random.integers(limits.min, limits.max + 1)
        spread = 2.0 ** random.uniform(0, limits.bits - 2)
        row[:] = level
        if kind == "noise":
            row[:] = random.normal(0, spread, width)
        elif kind == "full":
            row[:] = random.integers(limits.min, limits.max + 1, width)
        elif kind == "spikes":
            row[random.random(width) < 0.05] = random.integers(limits.min, limits.max + 1)
        elif kind == "blank":
            row[:] = np.where(random.random(width) < 0.3, limits.min, random.integers(0, 99, width))
        elif kind == "ramp":
            row[:] = np.arange(width) * random.integers(-300, 300)
    return np.clip(image, limits.min, limits.max).astype(dtype)


@settings(deadline=None, max_examples=100)
@given(images(), st.sampled_from([0, 100, 1000]))
@pytest.mark.slow
def test_images_compressed_by_astropy_are_decoded_exactly(
    image: NDArray[np.integer], following: int
) -> None:
    for tile, row in zip(compress(image), image, strict=True):
        status, decoded = decode(tile, row.size, image.itemsize, following=following)
        assert status == rice.OK
        np.testing.assert_array_equal(decoded, row)


@pytest.mark.parametrize("size", range(8))
def test_tile_with_missing_or_extra_bytes_is_rejected(size: int) -> None:
    # A valid stream of zeros has 6 bytes: a first pixel of 32 bits, then two blocks of 5 bits.
    status, _ = decode(np.zeros(size, np.uint8), 64, 4)
    if size < 6:
        assert status == rice.STREAM_ENDS_EARLY
    else:
        assert status == (rice.OK if size == 6 else rice.BYTES_LEFT_OVER)


@settings(deadline=None, max_examples=60)
@given(images(), st.data())
def test_truncated_stream_ends_early(image: NDArray[np.integer], data: st.DataObject) -> None:
    tile = compress(image)[0]
    kept = data.draw(st.integers(0, tile.size - 1))
    following = data.draw(st.sampled_from([0, 1000]))
    filler = data.draw(st.sampled_from([0x00, 0xA5, 0xFF]))
    status, _ = decode(
        tile[:kept], image.shape[1], image.itemsize, following=following, filler=filler
    )
    assert status == rice.STREAM_ENDS_EARLY


def test_truncated_stream_ends_early_even_if_other_tiles_follow() -> None:
    image = np.random.default_rng(1).integers(-500, 500, (2, 96)).astype(np.int32)
    first, second = compress(image)
    row = np.empty(96, np.int32)
    stream = np.concatenate([first, second])
    bounds = np.array([0, first.size - 1])
    assert rice.decode_row(stream, bounds, 32, 4, row) == rice.STREAM_ENDS_EARLY


def test_undefined_code_is_reported() -> None:
    stream = np.array([0, 0, 0, 7, 0b11111_000, 0, 0, 0, 0, 0, 0], np.uint8)
    assert decode(stream, 8, 4)[0] == rice.BAD_CODE


def test_unary_codes_longer_than_a_word_are_decoded() -> None:
    # Code 1 has no low bits. The unary part, 1000 zeros and a one, stands for a difference of 500.
    bits = f"{0:032b}" + "00001" + "0" * 1000 + "1" * 8
    bits += "0" * (-len(bits) % 8)
    stream = np.packbits(np.array(list(bits), np.uint8))
    status, row = decode(stream, 8, 4)
    assert status == rice.OK
    np.testing.assert_array_equal(row, 500)
    endless = np.concatenate([stream[:10], np.zeros(100_000, np.uint8)])
    assert decode(endless, 8, 4)[0] == rice.STREAM_ENDS_EARLY


@settings(deadline=None, max_examples=400)
@given(st.binary(max_size=400), st.sampled_from([2, 4]), st.integers(1, 300))
def test_decoding_random_bytes_never_writes_past_the_row(
    noise: bytes, bytepix: int, width: int
) -> None:
    tile = np.frombuffer(noise, np.uint8)
    status, row = decode(tile, width, bytepix)
    amid, row_amid = decode(tile, width, bytepix, following=1000)
    assert status == amid
    assert status == rice.OK or status in rice.PROBLEMS
    if status == rice.OK:
        np.testing.assert_array_equal(row, row_amid)


GUARDED = """
import ctypes, mmap, sys
import numpy as np
from sdoml_core.fits import rice

libc = ctypes.CDLL(None, use_errno=True)
room = mmap.mmap(-1, 64 * mmap.PAGESIZE)
start = ctypes.addressof(ctypes.c_char.from_buffer(room))
last = ctypes.c_void_p(start + len(room) - mmap.PAGESIZE)
assert libc.mprotect(last, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0  # PROT_NONE: any access crashes
everything = np.frombuffer(room, np.uint8)[: -mmap.PAGESIZE]
random = np.random.default_rng(0)
seen = set()
for number in range(20000):
    tile = random.integers(0, 256, random.integers(4, 400), np.uint8)
    if number % 2:
        tile[random.integers(4, tile.size + 1) :] = 0 if number % 4 == 1 else 255
    width, bytepix = int(random.integers(1, 300)), (2, 4)[number % 2]
    stream = everything[everything.size - tile.size :]
    stream[:] = tile
    row = np.empty(width, np.int32)
    seen.add(rice.decode_row(stream, np.array([0, tile.size]), 32, bytepix, row))
if sys.argv[1:]:
    stream.ctypes.data_as(ctypes.POINTER(ctypes.c_char))[tile.size]
print(sorted(seen))
"""


@pytest.mark.needs("linux")  # mprotect
@pytest.mark.slow
def test_decoder_never_reads_past_the_buffer() -> None:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", GUARDED, *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0, 1, 2, 3]\n"  # every possible status
    assert run("touch it").returncode == -signal.SIGSEGV  # shows that the guard page works
