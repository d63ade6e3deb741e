"""The uncompressed variant of an AIA file, as the near-real-time tree also serves it."""

import re

from sdoml_demo.render.fits_file import Number, checksummed, read_file

_STRUCTURE = re.compile(
    rb"XTENSION|BITPIX|NAXIS|PCOUNT|GCOUNT|TFIELDS|T(?:TYPE|FORM)\d|Z[A-Z]|CHECKSUM|DATASUM|EXTNAME"
)


def uncompressed(data: bytes) -> bytes:
    """Return the file with the image in HDU 0, as 32-bit integers without compression.

    Parameters
    ----------
    data
        A file with a compressed image in HDU 1.
    """
    file = read_file(data)
    structure: dict[str, str | int | float] = {
        "SIMPLE": Number("T"),
        "BITPIX": 32,
        "NAXIS": 2,
        "NAXIS1": 1024,
        "NAXIS2": 1024,
    }
    cards = [card for card in file.cards if not _STRUCTURE.match(card)]
    pixels = file.pixels.astype(">i4").tobytes()
    return checksummed(structure, cards, pixels + bytes(-len(pixels) % 2880))


def truncated(data: bytes) -> bytes:
    """Return the part of a file that is readable while the archive writes it."""
    return data[: min(32_484, len(data) * 2 // 3)]
