"""Compact frames: FITS files with normalized values as integers, compressed with RICE_1.

A pixel y is stored as the nearest integer to y/step, so that step times the integer is within half
a step of y. BSCALE is the step, so astropy, sunpy, DS9 and CFITSIO can read the normalized values
without this package. The file follows the convention for tiled images (FITS standard 4.0, section
10). It has 16 tiles of whole rows, which need less space than one tile per row. As in npy members,
the first row is the northernmost.

The layout is fixed: two headers of 2,880 bytes, the tile table, the tiles, and zeros up to a
multiple of 2,880 bytes. Pixels are rounded without dithering. Their noise is larger than half a
step, so the means of regions are not biased.
"""

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.encoding import COMPACT_DTYPE, CompactEncoding, EncodedFrame

RECORD: Final = 2880
HEADER_BYTES: Final = 2 * RECORD
TILES: Final = 16
TABLE_BYTES: Final = 8 * TILES
BLOCK: Final = 32
_NO_BLANK: Final = 1 << 40  # outside the range of the pixels, so no pixel is BLANK

MAX_STEPS: Final = 1 << 22
"""Maximum number of steps. With more steps, the step would approach the spacing of float32 values
near 1."""

_VALUE: Final = re.compile(rb"[A-Z0-9]{1,8} *= +(?:'1PB\()?([0-9.E+-]{1,30})(?:\) *')? *")
_PCOUNT, _TFORM1, _ZNAXIS1, _BSCALE = (RECORD + 80 * card for card in (5, 9, 14, 26))


def compact_header(resolution: int, step: float, *, heap: int, longest: int) -> bytes:
    """Return the headers of a compact frame.

    Parameters
    ----------
    resolution
        Pixels along each side; a multiple of 16.
    step
        Quantization step.
    heap
        Total size of the tiles in bytes.
    longest
        Size of the largest tile in bytes.
    """
    primary = _cards(("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True))
    return primary + _cards(
        ("XTENSION", "BINTABLE"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", 8),
        ("NAXIS2", TILES),
        ("PCOUNT", heap),
        ("GCOUNT", 1),
        ("TFIELDS", 1),
        ("TTYPE1", "COMPRESSED_DATA"),
        ("TFORM1", f"1PB({longest})"),
        ("ZIMAGE", True),
        ("ZTENSION", "IMAGE"),
        ("ZBITPIX", 32),
        ("ZNAXIS", 2),
        ("ZNAXIS1", resolution),
        ("ZNAXIS2", resolution),
        ("ZPCOUNT", 0),
        ("ZGCOUNT", 1),
        ("ZTILE1", resolution),
        ("ZTILE2", resolution // TILES),
        ("ZCMPTYPE", "RICE_1"),
        ("ZNAME1", "BLOCKSIZE"),
        ("ZVAL1", BLOCK),
        ("ZNAME2", "BYTEPIX"),
        ("ZVAL2", 4),
        ("EXTNAME", "COMPRESSED_IMAGE"),
        ("BSCALE", step),
        ("BZERO", 0.0),
    )


def encode_compact(
    pixels: NDArray[np.floating], steps: int, encoding: CompactEncoding
) -> EncodedFrame:
    """Quantize and compress a frame. Releases the GIL while compressing.

    Parameters
    ----------
    pixels
        float32 or float16 (n, n) in [0, 1]; n is a multiple of 16.
    steps
        Number of quantization steps between 0 and 1; see `sdoml_core.normalization.noise`.
    encoding
        Name of the encoding, for the index.

    Raises
    ------
    ValueError
        If the shape, the number of steps or a value is invalid.
    ImportError
        If Numba is not installed.
    """
    side = len(pixels)
    if pixels.shape != (side, side) or side == 0 or side % TILES:
        raise ValueError(
            f"a compact frame must be square with sides divisible by {TILES}, not {pixels.shape}"
        )
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"a compact frame must have 1 to {MAX_STEPS} steps, not {steps}")
    if not (pixels.min() >= 0 and pixels.max() <= 1):  # this comparison also rejects NaN
        raise ValueError("the values of a compact frame must be in [0, 1]")
    scaled = np.multiply(pixels, float(steps), dtype=np.float64)
    integers = np.rint(scaled, out=scaled).astype(np.int32)
    try:
        from sdoml_core.fits.rice_encoder import encode_rows
    except ImportError as error:
        raise _numba_missing() from error
    heap, descriptors = encode_rows(integers.reshape(TILES, -1))
    data = descriptors.astype(">i4").tobytes() + heap.tobytes()
    step = 1 / steps
    return frame_of_data(data, resolution=side, step=step, encoding=encoding)


def frame_of_data(
    data: bytes | memoryview,
    *,
    resolution: int,
    step: float,
    encoding: CompactEncoding,
    crc32: int | None = None,
) -> EncodedFrame:
    """Create a compact frame from its compressed data.

    Parameters
    ----------
    data
        Tile table, followed by the tiles.
    resolution, step, encoding
        As in the index.
    crc32
        CRC-32 of the data, if already known.

    Raises
    ------
    DamagedFileError
        If the tile table does not match the data.
    """
    sizes, _ = _tiles(data)
    header = compact_header(
        resolution, step, heap=len(data) - TABLE_BYTES, longest=int(sizes.max())
    )
    return EncodedFrame(
        header,
        data,
        -len(data) % RECORD,
        zlib_ng.crc32(data) if crc32 is None else crc32,
        COMPACT_DTYPE,
        resolution,
        encoding,
        step,
    )


def decode_compact(
    data: bytes | memoryview, step: float, out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Decode a compact frame into `out`, and return it. Releases the GIL.

    The data are untrusted. Invalid data cause an error or wrong pixels, but never out-of-bounds
    access.

    Parameters
    ----------
    data
        Tile table, followed by the tiles.
    step
        Quantization step.
    out
        float32 (n, n), C-contiguous; n is a multiple of 16.

    Raises
    ------
    DamagedFileError
        If the data cannot be decoded to n×n pixels.
    ImportError
        If Numba is not installed.
    """
    try:
        from sdoml_core.fits.rice import OK, PROBLEMS, decode_image
    except ImportError as error:
        raise _numba_missing() from error
    if out.shape[0] % TILES:
        raise DamagedFileError(
            f"the resolution of a compact frame must be a multiple of {TILES}, not {out.shape[0]}"
        )
    _, tiles = _tiles(data)
    stream = np.frombuffer(data, np.uint8)
    stream.flags.writeable = False  # the kernel is compiled only for this array type
    status, tile, _ = decode_image(
        stream, tiles, (BLOCK, 4), (step, 0.0, _NO_BLANK), out.reshape(TILES, -1)
    )
    if status != OK:
        raise DamagedFileError(f"compressed tile {tile} of a compact frame {PROBLEMS[status]}")
    return out


def parse_compact_header(name: str, start: bytes, size: int) -> tuple[int, float, int]:
    """Parse the headers of a compact member.

    Parameters
    ----------
    name
        Name of the member, for error messages.
    start
        At least the first `HEADER_BYTES` bytes of the member.
    size
        Size of the member in bytes.

    Returns
    -------
    Resolution, step, and size of the data after the headers in bytes.

    Raises
    ------
    DamagedFileError
        If the headers differ from those of `compact_header`, or do not match the size.
    """
    values = [_VALUE.fullmatch(start[at : at + 80]) for at in (_ZNAXIS1, _BSCALE, _PCOUNT, _TFORM1)]
    try:
        side, step, heap, longest = (value[1] for value in values if value)
        resolution = int(side)
        expected = compact_header(resolution, float(step), heap=int(heap), longest=int(longest))
        valid_step = check_step(float(step))
    except ValueError as error:
        raise DamagedFileError(f"{name} is not a compact FITS file") from error
    if start[:HEADER_BYTES] != expected or not resolution or resolution % TILES:
        raise DamagedFileError(f"{name} is not a compact FITS file")
    used = TABLE_BYTES + int(heap)
    if size != HEADER_BYTES + used + -used % RECORD:
        raise DamagedFileError(
            f"{name} is {size} bytes long, which does not match its {used} bytes of compressed data"
        )
    return resolution, valid_step, used


def check_step(step: float) -> float:
    """Return a quantization step if it is valid. Raise ValueError if it is not."""
    if not 1 / MAX_STEPS <= step <= 1:
        raise ValueError(
            f"the quantization step must be between {1 / MAX_STEPS:.1e} and 1, not {step}"
        )
    return step


def _tiles(data: bytes | memoryview) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Read the tile table. Return the size of each tile, and its start and end in the data."""
    if len(data) <= TABLE_BYTES:
        raise DamagedFileError(
            f"a compact frame has {len(data)} bytes of data; expected more than {TABLE_BYTES}"
        )
    table = np.frombuffer(data, ">i4", 2 * TILES).reshape(TILES, 2).astype(np.int64)
    sizes = table[:, 0]
    ends = np.cumsum(sizes)
    starts = ends - sizes
    if sizes.min() < 1 or ends[-1] != len(data) - TABLE_BYTES or np.any(table[:, 1] != starts):
        raise DamagedFileError("the tile table of a compact frame is damaged")
    return sizes, np.stack([starts, ends], axis=1) + TABLE_BYTES


def _cards(*cards: tuple[str, str | float]) -> bytes:
    """Return a header of 2,880 bytes."""
    text = b"".join(
        f"{name:<8}= {_value(value)}".ljust(80).encode("ascii") for name, value in cards
    )
    return (text + b"END").ljust(RECORD)


def _value(value: str | float) -> str:
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    if isinstance(value, str):
        return f"'{value:<8}'"
    return f"{value!r:>20}".upper()


def _numba_missing() -> ImportError:
    return ImportError(
        "compact shards need Numba: pip install 'sdoml-lite[compact]' "
        "(in a checkout: pip install -e '.[compact]')"
    )
