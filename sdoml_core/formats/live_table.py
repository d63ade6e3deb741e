"""The table of near-real-time frames of one hour, with one row per expected frame.

It has the columns of the frame table, the source of each frame, and the time at which the file was
first readable.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.formats.ledger import FRAME_TABLE, Column, FrameRow, TableFormat

DEFINITIVE: Final = "definitive"
"""Reason for a frame that was replaced by the definitive frame."""

SIDE: Final = 32
"""Pixels along each side of a thumbnail."""


@dataclass(frozen=True, slots=True)
class LiveRow(FrameRow):
    """One expected near-real-time frame."""

    file: str | None = None
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    data_crc32: int | None = None
    published: datetime | None = None
    rejected: str | None = None
    thumbnail: bytes | None = None

    @property
    def rejects(self) -> frozenset[str]:
        """Names of the files that must not be used again."""
        return frozenset(filter(None, (self.rejected or "").split(",")))


LIVE_TABLE = TableFormat(
    "live table",
    LiveRow,
    (
        *FRAME_TABLE.columns,
        Column("file", "string", "File name in the near-real-time tree"),
        Column("url", "string", "Its address at the first root; any mirror may have served it"),
        Column("size", "int64", "Size of the file"),
        Column("sha256", "string", "SHA-256 of the file, in hex"),
        Column("data_crc32", "int64", "CRC-32 of the pixels as the file has them"),
        Column(
            "published",
            "timestamp",
            "First readable: Last-Modified, else when it was seen",
        ),
        Column("rejected", "string", "Files that must not be used, separated by commas"),
        Column("thumbnail", "binary", "Means of the provisional frame, 32×32 float32"),
    ),
)


def thumbnail(pixels: NDArray[np.float32]) -> bytes:
    """Return a processed frame averaged to 32×32 pixels, as little-endian float32."""
    block = len(pixels) // SIDE
    means = pixels.reshape(SIDE, block, SIDE, block).mean(axis=(1, 3), dtype=np.float64)
    return bytes(means.astype("<f4").data)


def read_thumbnail(data: bytes) -> NDArray[np.float32]:
    """Return the pixels of a thumbnail, float32 (32, 32)."""
    return np.frombuffer(data, "<f4").reshape(SIDE, SIDE)
