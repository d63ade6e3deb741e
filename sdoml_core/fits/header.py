"""FITS headers: the position of the image, the values of cards, and checksums.

Only the structure and the requested cards are parsed, so that the archive's illegal cards
(``RSUN_LF = nan``) cause no errors. Sizes are compared with the length of the file before memory is
allocated. DATASUM and CHECKSUM are verified if a file has them. `sdoml_core.fits.pixels` reads
the pixels.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numba import njit

from sdoml_core.errors import (
    CorruptFrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)
from sdoml_core.fits.rice import load_word

_QUOTED = re.compile(r"'((?:[^']|'')*)'")

_END = b"END     "
_CARD = re.compile(rb"(.{8})= (.{70})|.{80}", re.DOTALL)

BLOCK = 2880
CARD = 80


@dataclass(frozen=True, slots=True)
class Header:
    """The cards of one HDU. A card is parsed when its value is read."""

    cards: dict[str, bytes]
    """Text after the ``=`` of each card. For repeated keywords, the first card is used."""

    def text(self, key: str) -> str | None:
        """Return the value of a card as text, without quotes, trailing blanks or the comment."""
        raw = self.cards.get(key)
        if raw is None:
            return None
        field = raw.decode("latin-1").strip()
        if not field.startswith("'"):
            return field.partition("/")[0].strip() or None
        quoted = _QUOTED.match(field)
        return quoted[1].replace("''", "'").rstrip() if quoted else None

    def number(self, key: str) -> float | None:
        """Return the value of a card as a float, or None if it is missing or not a number.

        The text ``nan`` is read as NaN.
        """
        text = self.text(key)
        try:
            return None if text is None else float(text.replace("D", "E"))
        except ValueError:
            return None

    def integer(self, key: str) -> int | None:
        """Return the value of a card as an int, or None if it is missing or not an integer."""
        text = self.text(key)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class ImageHdu:
    """Position of the image in a file."""

    header: Header
    start: int
    """First byte of the header."""

    data_start: int
    data_size: int
    """Size of the data unit in bytes, without the padding to full blocks."""

    shape: tuple[int, int]
    """(rows, columns)."""

    compressed: bool
    """Whether the HDU is a binary table of compressed tiles (ZIMAGE)."""


def find_image(data: bytes) -> ImageHdu:
    """Find the first HDU with a 2-D image, compressed or not.

    Raises
    ------
    NotAnImageError
        If the bytes are not a FITS file, or if a complete file has no such image.
    TruncatedFrameError
        If the bytes end before the end of the header or the data.
    CorruptFrameError
        If the structural cards are invalid.
    """
    if not data.startswith(b"SIMPLE  ="):
        _refuse_start(data)
    start = 0
    while start < len(data):
        header, data_start = _read_header(data, start)
        size = _data_size(header)
        shape, compressed = _image_shape(header, primary=start == 0)
        if data_start + size > len(data):
            raise TruncatedFrameError(
                f"{len(data)} bytes, but the header requires {data_start + size}"
            )
        if shape is not None:
            return ImageHdu(header, start, data_start, size, shape, compressed)
        start = data_start + -(-size // BLOCK) * BLOCK
        if start == len(data) and header.text("EXTEND") == "T":
            raise TruncatedFrameError("ends before the image begins")
    raise NotAnImageError("a FITS file without a 2-D image")


def verify_checksum(data: bytes, hdu: ImageHdu) -> None:
    """Verify the DATASUM and CHECKSUM of an HDU, if it has them.

    Raises
    ------
    CorruptFrameError
        If DATASUM or CHECKSUM does not match.
    """
    stream = np.frombuffer(data, np.uint8)
    promised = hdu.header.integer("DATASUM")
    checksum = hdu.header.text("CHECKSUM")
    checksum = checksum if checksum and checksum.strip("0") else None  # "000…" means not computed
    if promised is None and checksum is None:
        return
    data_sum = ones_complement(stream, hdu.data_start, hdu.data_start + hdu.data_size)
    if promised is not None and data_sum != promised:
        raise CorruptFrameError(f"DATASUM is {promised}, but the data sum to {data_sum}")
    if checksum is not None:
        total = data_sum + ones_complement(stream, hdu.start, hdu.data_start)
        if total % 0xFFFFFFFF:
            raise CorruptFrameError("CHECKSUM does not match the header")


def _refuse_start(data: bytes) -> NoReturn:
    """Raise the appropriate error for data that does not start with a FITS header."""
    if not data:
        raise NotAnImageError("empty")
    if len(data) < 9 and b"SIMPLE  =".startswith(data):
        raise TruncatedFrameError(f"{len(data)} bytes")
    if data[:512].lstrip().startswith(b"<"):
        raise NotAnImageError("an HTML or XML page, not a FITS file")
    raise NotAnImageError("not a FITS file")


def _read_header(data: bytes, start: int) -> tuple[Header, int]:
    """Return the cards of the header at a position, and the position of its data."""
    end = data.find(_END, start)
    while end >= 0 and (end - start) % CARD:
        end = data.find(_END, end + 1)
    after = end + CARD
    if end >= 0 and after <= len(data):
        found = reversed(_CARD.findall(data[start:end]))  # keeps the first card of each keyword
        cards = {key.decode("latin-1").rstrip(): value for key, value in found if key}
        return Header(cards), min(start + -(-(after - start) // BLOCK) * BLOCK, len(data))
    if data[start:].isascii():
        raise TruncatedFrameError(f"{len(data)} bytes, which end within a header")
    raise CorruptFrameError("the header has no END card")


def _count(header: Header, key: str, default: int | None = None) -> int:
    """Return the value of a structural card that must be a nonnegative integer."""
    value = default if key not in header.cards else header.integer(key)
    if value is None or value < 0:
        raise CorruptFrameError(f"{key} is {header.text(key) or 'missing'}")
    return value


def _data_size(header: Header) -> int:
    """Return the size of an HDU's data unit in bytes (FITS standard 4.0, equations 1 and 2)."""
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
    """Return (rows, columns), or None if this is not a 2-D image, and whether it is compressed."""
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


@njit(nogil=True, cache=True, error_model="numpy")
def ones_complement(stream: Any, start: int, stop: int) -> int:
    """Return the 32-bit ones' complement sum of big-endian words (FITS 4.0, appendix J)."""
    low_word = np.uint64(0xFFFFFFFF)
    high = np.uint64(0)
    low = np.uint64(0)
    whole = (stop - start) // 8 * 8
    for at in range(start, start + whole, 8):
        pair: Any = load_word(stream, np.uint64(at))  # type: ignore[call-arg]
        high += pair >> np.uint64(32)
        low += pair & low_word
    last = np.uint64(0)
    for i in range(8):
        at = start + whole + i
        last = (last << np.uint64(8)) | (np.uint64(stream[at]) if at < stop else np.uint64(0))
    total = high + low + (last >> np.uint64(32)) + (last & low_word)
    while total >> np.uint64(32):
        total = (total & low_word) + (total >> np.uint64(32))
    return int(total)
