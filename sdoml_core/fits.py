"""FITS files as the archive writes them, read without a full parse; others through astropy.

What the synoptic archive serves is decoded here: one RICE_1 tile per row, 16- or 32-bit
integers. Only the structure and the cards that are asked for are ever interpreted, so the
archive's illegal cards (``RSUN_LF = nan``) do no harm. Any other layout is handed to astropy as a
file of the structural cards and the data alone.

Sizes are compared with the bytes at hand before anything is allocated. DATASUM and CHECKSUM are
verified where a file has them.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sdoml_core import rice
from sdoml_core.errors import (
    CorruptFrameError,
    FrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)

_QUOTED = re.compile(r"'((?:[^']|'')*)'")

BLOCK = 2880
CARD = 80
NO_BLANK = 1 << 40
"""Stands for "no BLANK card": no 32-bit pixel has this value."""


@dataclass(frozen=True, slots=True)
class Header:
    """The cards of one HDU, interpreted on request."""

    cards: dict[str, bytes]
    """What follows the ``=`` of each card; of repeated keywords the first."""

    def text(self, key: str) -> str | None:
        """A card's value as text: without quotes, trailing blanks and comment."""
        raw = self.cards.get(key)
        if raw is None:
            return None
        field = raw.decode("latin-1").strip()
        if not field.startswith("'"):
            return field.partition("/")[0].strip() or None
        quoted = _QUOTED.match(field)
        return quoted[1].replace("''", "'").rstrip() if quoted else None

    def number(self, key: str) -> float | None:
        """A card's value as a float; NaN for ``nan``, None for no number or no card."""
        text = self.text(key)
        try:
            return None if text is None else float(text.replace("D", "E"))
        except ValueError:
            return None

    def integer(self, key: str) -> int | None:
        """A card's value as an int; None for anything else or no card."""
        text = self.text(key)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class ImageHdu:
    """Where a file has its image."""

    header: Header
    start: int
    """First byte of the header."""

    data_start: int
    data_size: int
    """Bytes of the data unit, without the padding to full blocks."""

    shape: tuple[int, int]
    """Rows, columns."""

    compressed: bool
    """Whether it is a binary table of compressed tiles (ZIMAGE)."""


def find_image(data: bytes) -> ImageHdu:
    """The first HDU that holds a 2-D image, compressed or not.

    Raises
    ------
    NotAnImageError
        For what is no FITS file, or a whole one without such an image.
    TruncatedFrameError
        Where the bytes end before the header or the data do.
    CorruptFrameError
        Where the structural cards make no sense.
    """
    if not data.startswith(b"SIMPLE  ="):
        _refuse_start(data)
    start = 0
    while start < len(data):
        header, data_start = _read_header(data, start)
        size = _data_size(header)
        shape, compressed = _image_shape(header, primary=start == 0)
        if data_start + size > len(data):
            raise TruncatedFrameError(f"{len(data)} bytes, the header promises {data_start + size}")
        if shape is not None:
            return ImageHdu(header, start, data_start, size, shape, compressed)
        start = data_start + -(-size // BLOCK) * BLOCK
        if start == len(data) and header.text("EXTEND") == "T":
            raise TruncatedFrameError("ends where the image should begin")
    raise NotAnImageError("a FITS file without a 2-D image")


def verify_checksum(data: bytes, hdu: ImageHdu) -> None:
    """Compare DATASUM and CHECKSUM with the bytes, where the HDU has them.

    Raises
    ------
    CorruptFrameError
        Where one does not fit.
    """
    stream = np.frombuffer(data, np.uint8)
    promised = hdu.header.integer("DATASUM")
    checksum = hdu.header.text("CHECKSUM")
    checksum = checksum if checksum and checksum.strip("0") else None  # zeros: not computed
    if promised is None and checksum is None:
        return
    data_sum = _ones_complement(stream, hdu.data_start, hdu.data_start + hdu.data_size)
    if promised is not None and data_sum != promised:
        raise CorruptFrameError(f"DATASUM says {promised}, the data sum up to {data_sum}")
    if checksum is not None:
        total = data_sum + _ones_complement(stream, hdu.start, hdu.data_start)
        if total % 0xFFFFFFFF:
            raise CorruptFrameError("CHECKSUM does not fit the header")


def read_pixels(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.float32], int]:
    """Decode an image.

    Returns
    -------
    float32 (rows, columns), physical values (BSCALE and BZERO applied), NaN where there is no
    data; and the number of NaN.

    Raises
    ------
    CorruptFrameError
        Where the pixels cannot be decoded.
    """
    layout = _rice_layout(data, hdu)
    if layout is None:
        return _read_with_astropy(data, hdu)
    tiles, coding = layout
    image = np.empty(hdu.shape, np.float32)
    stream = np.frombuffer(data, np.uint8)
    status, row, missing = rice.decode_image(stream, tiles, coding, _scaling(hdu.header), image)
    if status != rice.OK:
        raise CorruptFrameError(f"the compressed stream of row {row} {rice.PROBLEMS[status]}")
    return image, missing


def _refuse_start(data: bytes) -> NoReturn:
    """The fitting error for bytes that do not begin like FITS."""
    if not data:
        raise NotAnImageError("empty")
    if len(data) < 9 and b"SIMPLE  =".startswith(data):
        raise TruncatedFrameError(f"{len(data)} bytes")
    if data[:512].lstrip().startswith(b"<"):
        raise NotAnImageError("an HTML or XML page, not a FITS file")
    raise NotAnImageError("not a FITS file")


def _read_header(data: bytes, start: int) -> tuple[Header, int]:
    """Cards of the header at a position, and where its data begin."""
    cards: dict[str, bytes] = {}
    for position in range(start, len(data) - CARD + 1, CARD):
        key = data[position : position + 8]
        if key == b"END     ":
            after = position + CARD
            return Header(cards), min(start + -(-(after - start) // BLOCK) * BLOCK, len(data))
        if data[position + 8 : position + 10] == b"= ":
            name = key.decode("latin-1").rstrip()
            cards.setdefault(name, data[position + 10 : position + CARD])
    if data[start:].isascii():
        raise TruncatedFrameError(f"{len(data)} bytes, which end within a header")
    raise CorruptFrameError("a header without an END card")


def _count(header: Header, key: str, default: int | None = None) -> int:
    """A structural card that must be a number from 0 on."""
    value = default if key not in header.cards else header.integer(key)
    if value is None or value < 0:
        raise CorruptFrameError(f"{key} is {header.text(key) or 'missing'}")
    return value


def _data_size(header: Header) -> int:
    """Bytes of an HDU's data unit (FITS standard 4.0, equations 1 and 2)."""
    axes = _count(header, "NAXIS")
    if axes > 999:
        raise CorruptFrameError(f"NAXIS is {axes}")
    bitpix = header.integer("BITPIX")
    if bitpix not in {8, 16, 32, 64, -32, -64}:
        raise CorruptFrameError(f"BITPIX is {header.text('BITPIX')}")
    elements = math.prod(_count(header, f"NAXIS{axis}") for axis in range(1, axes + 1))
    if axes == 0:
        elements = 0
    groups = _count(header, "GCOUNT", 1)
    return abs(bitpix) // 8 * groups * (_count(header, "PCOUNT", 0) + elements)


def _image_shape(header: Header, *, primary: bool) -> tuple[tuple[int, int] | None, bool]:
    """(rows, columns) of a 2-D image, else None; and whether it is compressed."""
    kind = header.text("XTENSION")
    compressed = kind == "BINTABLE" and header.text("ZIMAGE") == "T"
    prefix = "Z" if compressed else ""
    if not (primary or compressed or kind == "IMAGE") or _count(header, f"{prefix}NAXIS") != 2:
        return None, False
    rows, columns = _count(header, f"{prefix}NAXIS2"), _count(header, f"{prefix}NAXIS1")
    if rows == 0 or columns == 0:
        return None, False
    if max(rows, columns) > 4096:
        raise WrongFrameError(f"{columns}×{rows} pixels, more than any camera of SDO has")
    return (rows, columns), compressed


def _scaling(header: Header) -> tuple[float, float, int]:
    """BSCALE, BZERO and BLANK."""
    scale = header.number("BSCALE") if "BSCALE" in header.cards else 1.0
    zero = header.number("BZERO") if "BZERO" in header.cards else 0.0
    if scale is None or zero is None or not (math.isfinite(scale) and math.isfinite(zero)):
        raise CorruptFrameError(f"BSCALE is {header.text('BSCALE')}, BZERO {header.text('BZERO')}")
    blank = header.integer("BLANK")
    return scale, zero, NO_BLANK if blank is None else max(-NO_BLANK, min(blank, NO_BLANK))


def _rice_layout(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.int64], tuple[int, int]] | None:
    """Tile positions (rows, 2) and (BLOCKSIZE, BYTEPIX); None where it is another layout."""
    header = hdu.header
    rows, columns = hdu.shape
    options = {
        header.text(f"ZNAME{n}"): header.integer(f"ZVAL{n}")
        for n in range(1, 10)
        if f"ZNAME{n}" in header.cards
    }
    block, bytepix = options.get("BLOCKSIZE", 32), options.get("BYTEPIX", 4)
    table_start = hdu.data_start
    heap_offset = header.integer("THEAP") if "THEAP" in header.cards else 8 * rows
    if (
        not hdu.compressed
        or header.text("ZCMPTYPE") not in {"RICE_1", "RICE_ONE"}
        or (header.integer("ZBITPIX"), bytepix) not in {(16, 2), (32, 4)}
        or block is None
        or bytepix is None
        or not 1 <= block <= 4096
        or header.integer("ZTILE1") != columns
        or header.integer("ZTILE2") not in {1, None}
        or header.integer("TFIELDS") != 1
        or header.text("TTYPE1") != "COMPRESSED_DATA"
        or not (header.text("TFORM1") or "").startswith(("1PB", "PB"))
        or (header.integer("NAXIS1"), header.integer("NAXIS2")) != (8, rows)
        or header.integer("BITPIX") != 8
        or header.integer("GCOUNT") != 1
        or {"ZBLANK", "ZSCALE", "ZZERO", "ZQUANTIZ"} & header.cards.keys()
        or heap_offset is None
    ):
        return None
    if not 8 * rows <= heap_offset <= hdu.data_size:
        raise CorruptFrameError(f"THEAP is {heap_offset}")
    descriptors = np.frombuffer(data, ">i4", 2 * rows, table_start).reshape(rows, 2)
    length, offset = descriptors[:, 0].astype(np.int64), descriptors[:, 1].astype(np.int64)
    outside = (length <= 0) | (offset < 0) | (heap_offset + offset + length > hdu.data_size)
    if outside.any():
        raise CorruptFrameError(f"row {int(outside.argmax())} points outside the data")
    begin = table_start + heap_offset + offset
    return np.stack([begin, begin + length], axis=1), (block, bytepix)


_STRUCTURE = ("BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP", "BSCALE", "BZERO", "BLANK")
_STRUCTURE_SERIES = ("NAXIS", "TTYPE", "TFORM", "TZERO", "TSCAL", "TNULL")


def _read_with_astropy(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.float32], int]:
    """Decode whatever else astropy can, from a file of the structural cards and the data.

    Without the other cards nothing is left for astropy to warn of; its warning filters are
    shared by all threads and stay untouched.
    """
    from astropy.io import fits  # slow to import, and hardly ever needed

    kind = "BINTABLE" if hdu.compressed else "IMAGE"
    cards = [f"XTENSION= '{kind:8}'".encode()]
    cards += [
        f"{key:8}= ".encode() + value
        for key, value in {"PCOUNT": b"0", "GCOUNT": b"1", **hdu.header.cards}.items()
        if key in _STRUCTURE
        or (key.startswith("Z") and hdu.compressed)
        or key.rstrip("0123456789") in _STRUCTURE_SERIES
    ]
    block = b"".join(card.ljust(CARD) for card in (*_ordered(cards), b"END"))
    file = (
        _PRIMARY
        + block.ljust(-(-len(block) // BLOCK) * BLOCK)
        + data[hdu.data_start : hdu.data_start + hdu.data_size]
    )
    try:
        with fits.open(io.BytesIO(file.ljust(-(-len(file) // BLOCK) * BLOCK, b"\0"))) as hdus:
            pixels = np.asarray(hdus[1].data)
        if pixels.shape != hdu.shape:
            raise WrongFrameError(f"shape {pixels.shape} under a header that says {hdu.shape}")  # noqa: TRY301
        with np.errstate(over="ignore"):
            image = np.ascontiguousarray(pixels, dtype=np.float32)
    except FrameError:
        raise
    except Exception as error:  # astropy fails on damaged files in more ways than can be listed
        raise CorruptFrameError(f"astropy cannot decode it: {error}") from error
    absent = ~np.isfinite(image)
    image[absent] = np.nan
    return image, int(absent.sum())


def _ordered(cards: list[bytes]) -> list[bytes]:
    """Structural cards in the order that the standard wants."""
    first = [
        b"XTENSION",
        b"BITPIX  ",
        b"NAXIS   ",
        b"NAXIS1  ",
        b"NAXIS2  ",
        b"PCOUNT  ",
        b"GCOUNT  ",
    ]
    rank = {key: number for number, key in enumerate(first)}
    return sorted(cards, key=lambda card: rank.get(card[:8], len(rank)))


_PRIMARY = b"".join(
    card.ljust(CARD)
    for card in (
        b"SIMPLE  =                    T",
        b"BITPIX  =                    8",
        b"NAXIS   =                    0",
        b"EXTEND  =                    T",
        b"END",
    )
).ljust(BLOCK)


@njit(nogil=True, cache=True, error_model="numpy")
def _ones_complement(stream: Any, start: int, stop: int) -> int:
    """32-bit ones' complement sum of big-endian words (FITS standard 4.0, appendix J)."""
    total = np.uint64(0)
    words = (stop - start) // 4
    for i in range(words):
        at = start + 4 * i
        total += (
            (np.uint64(stream[at]) << np.uint64(24))
            | (np.uint64(stream[at + 1]) << np.uint64(16))
            | (np.uint64(stream[at + 2]) << np.uint64(8))
            | np.uint64(stream[at + 3])
        )
    shift = 24
    for at in range(start + 4 * words, stop):
        total += np.uint64(stream[at]) << np.uint64(shift)
        shift -= 8
    while total >> np.uint64(32):
        total = (total & np.uint64(0xFFFFFFFF)) + (total >> np.uint64(32))
    return int(total)
