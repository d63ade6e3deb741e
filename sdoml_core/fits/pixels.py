"""Decode the pixels of a FITS image. Layouts other than the archive's are decoded by astropy.

The synoptic archive serves one RICE_1 tile per row of 16- or 32-bit integers. Any other layout is
passed to astropy as a file that contains only the structural cards and the data.
"""

import io
import math

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import CorruptFrameError, WrongFrameError
from sdoml_core.fits import rice
from sdoml_core.fits.header import BLOCK, CARD, Header, ImageHdu

NO_BLANK = 1 << 40
"""Value used if the BLANK card is missing. No 32-bit pixel has this value."""

_STRUCTURE = ("BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "THEAP", "BSCALE", "BZERO", "BLANK")
_STRUCTURE_SERIES = ("NAXIS", "TTYPE", "TFORM", "TZERO", "TSCAL", "TNULL")

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


def read_pixels(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.float32], int]:
    """Decode an image.

    Returns
    -------
    The physical values as float32 (rows, columns), with BSCALE and BZERO applied and NaN for pixels
    without data, and the number of NaN pixels.

    Raises
    ------
    CorruptFrameError
        If the pixels cannot be decoded.
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


def _scaling(header: Header) -> tuple[float, float, int]:
    """Return BSCALE, BZERO and BLANK."""
    scale = header.number("BSCALE") if "BSCALE" in header.cards else 1.0
    zero = header.number("BZERO") if "BZERO" in header.cards else 0.0
    if scale is None or zero is None or not (math.isfinite(scale) and math.isfinite(zero)):
        raise CorruptFrameError(f"BSCALE is {header.text('BSCALE')}, BZERO {header.text('BZERO')}")
    blank = header.integer("BLANK")
    return scale, zero, NO_BLANK if blank is None else max(-NO_BLANK, min(blank, NO_BLANK))


def _rice_layout(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.int64], tuple[int, int]] | None:
    """Return tile positions (rows, 2) and (BLOCKSIZE, BYTEPIX), or None for any other layout."""
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


def _read_with_astropy(data: bytes, hdu: ImageHdu) -> tuple[NDArray[np.float32], int]:
    """Decode any other layout with astropy.

    The file that astropy reads contains only the structural cards and the data. Other cards could
    cause warnings, which cannot be filtered here, because warning filters are shared by all
    threads.
    """
    from astropy.io import fits  # astropy is slow to import and rarely needed

    if any((hdu.header.integer(f"ZTILE{axis}") or 1) > max(hdu.shape) for axis in (1, 2)):
        raise CorruptFrameError("the compressed tiles are larger than the image")
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
        with np.errstate(over="ignore"):
            image = np.ascontiguousarray(pixels, dtype=np.float32)
    except Exception as error:  # astropy fails on damaged files in more ways than can be listed
        raise CorruptFrameError(f"astropy cannot decode the image: {error}") from error
    if image.shape != hdu.shape:
        raise WrongFrameError(f"shape {image.shape}, but the header says {hdu.shape}")
    absent = ~np.isfinite(image)
    image[absent] = np.nan
    return image, int(absent.sum())


def _ordered(cards: list[bytes]) -> list[bytes]:
    """Return structural cards in the order that the FITS standard requires."""
    names = ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "PCOUNT", "GCOUNT")
    first = [f"{name:8}".encode() for name in names]
    rank = {key: number for number, key in enumerate(first)}
    return sorted(cards, key=lambda card: rank.get(card[:8], len(rank)))
