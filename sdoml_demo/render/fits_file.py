"""AIA synoptic files as bytes: header cards, compressed pixels, DATASUM and CHECKSUM."""

import io
import struct
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sdoml_core.fits.rice_encoder import encode_rows

BLANK = -(2**31)
"""Value of a pixel without data."""

_RECORD = 2880
_CARD = 80


class Number(str):
    """A number that is already formatted for its card."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class FitsFile:
    """The parts of a synoptic file."""

    primary: bytes
    """The primary header, which has no data."""
    cards: tuple[bytes, ...]
    """Cards of the image's header up to END, 80 bytes each."""
    pixels: NDArray[np.int32]
    """Sixteenths of a DN, shape (1024, 1024), south up; `BLANK` where there is no data."""


def split_header(data: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return a file's primary header and the cards of its image header, up to END."""
    cards: list[bytes] = []
    while not cards or cards[-1].rstrip() != b"END":
        start = _RECORD + _CARD * len(cards)
        cards.append(data[start : start + _CARD])
    return data[:_RECORD], tuple(cards)


@lru_cache(maxsize=8)
def read_file(data: bytes) -> FitsFile:
    """Read a real or rendered file with astropy's decoder, which is slow. Results are cached."""
    from astropy.io import fits

    primary, cards = split_header(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the archive's headers have illegal cards
        with fits.open(io.BytesIO(data), do_not_scale_image_data=True) as hdus:
            pixels = np.array(hdus[1].data, np.int32)
    pixels.flags.writeable = False
    return FitsFile(primary, cards, pixels)


def write_file(
    file: FitsFile, values: Mapping[str, str | int | float], *, stamp: str | None = None
) -> bytes:
    """Write a file with valid checksums.

    Parameters
    ----------
    file
        The parts.
    values
        New values of existing cards.
    stamp
        Time for the comments of DATASUM and CHECKSUM. By default the comments are kept.
    """
    heap, descriptors = encode_rows(file.pixels)
    table = descriptors.astype(">i4").tobytes()
    used = len(table) + heap.size
    data = b"".join((table, heap.data, bytes(-used % _RECORD)))
    changed: dict[str, str | int | float] = {
        **values,
        "PCOUNT": heap.size,
        "TFORM1": f"1PB({descriptors[:, 0].max()})",
        "DATASUM": str(_ones_sum(data)),
        "CHECKSUM": "0" * 16,
    }
    header = b"".join(_replaced(card, changed, stamp) for card in file.cards)
    header += b" " * (-len(header) % _RECORD)
    checksum = _encode_checksum(_ones_sum(header, _ones_sum(data)))
    header = header.replace(b"'" + b"0" * 16 + b"'", b"'" + checksum + b"'", 1)
    return file.primary + header + data


def checksummed(
    structure: Mapping[str, str | int | float], cards: Iterable[bytes], data: bytes
) -> bytes:
    """Return one HDU with right checksums.

    Parameters
    ----------
    structure
        The first cards, which describe the data.
    cards
        The other cards up to END, without checksums.
    data
        The data, padded to whole blocks.
    """
    total = _ones_sum(data)
    sums = {"DATASUM": str(total), "CHECKSUM": "0" * 16}
    first = [_card(key, value).ljust(_CARD) for key, value in structure.items()]
    rest = [card for card in cards if not card.startswith(b"END ")]
    last = [_card(key, value).ljust(_CARD) for key, value in sums.items()]
    header = b"".join([*first, *rest, *last, b"END".ljust(_CARD)])
    header += b" " * (-len(header) % _RECORD)
    checksum = _encode_checksum(_ones_sum(header, total))
    return header.replace(b"'" + b"0" * 16 + b"'", b"'" + checksum + b"'", 1) + data


def _replaced(card: bytes, values: Mapping[str, str | int | float], stamp: str | None) -> bytes:
    """Return the card with its new value, if there is one."""
    keyword = card[:8].decode("ascii").rstrip()
    if keyword not in values:
        return card
    value = _card(keyword, values[keyword])
    if stamp is not None and keyword in ("CHECKSUM", "DATASUM"):
        return (value.ljust(30) + f" / HDU checksum updated {stamp}".encode("ascii")).ljust(_CARD)
    slash = card.find(b" / ", 10)
    comment = card[slash:].rstrip() if slash >= 0 else b""
    return (value.ljust(30) + comment).ljust(_CARD)[:_CARD]


def _quoted(text: str) -> str:
    return f"'{text:<8}'"


def _card(keyword: str, value: str | float) -> bytes:
    """Return keyword and value in the archive's style: integers to the right, others left."""
    if isinstance(value, Number):
        text = str(value)
    elif isinstance(value, str):
        text = _quoted(value)
    else:
        text = f"{value:>20}"
    return f"{keyword:<8}= {text}".encode("ascii")


def _ones_sum(data: bytes, start: int = 0) -> int:
    """Return the 32-bit ones'-complement sum of the FITS standard 4.0, appendix J."""
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64)) + start
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encode_checksum(total: int) -> bytes:
    """Return the complement of a sum as 16 letters and digits (appendix J)."""
    excluded = b":;<=>?@[\\]^_`"
    quarters = []
    for byte in struct.pack(">I", ~total & 0xFFFFFFFF):
        part = [byte // 4 + 48 + (byte % 4 if k == 0 else 0) for k in range(4)]
        while any(letter in excluded for letter in part):
            for k in (0, 2):
                if part[k] in excluded or part[k + 1] in excluded:
                    part[k] += 1
                    part[k + 1] -= 1
        quarters.append(part)
    letters = bytes(quarters[byte][k] for k in range(4) for byte in range(4))
    return letters[-1:] + letters[:-1]
