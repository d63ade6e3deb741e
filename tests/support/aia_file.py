"""Real AIA files, and the real 193 Å file with changed cards."""

from pathlib import Path

_DATA = Path(__file__).parents[2] / "sdoml_demo/data"
REAL = (_DATA / "AIA20180820_1248_0193.fits").read_bytes()
REAL_2014 = sorted((_DATA / "real_2014").glob("*.fits"))
"""Frames of 94, 131, 171, 193, 211 and 335 Å from 2014-01-01 00:00."""

_BARE = REAL.replace(b"CHECKSUM=", b"CHECKXXX=").replace(b"DATASUM =", b"DATAXXX =")


def with_cards(**cards: str | None) -> bytes:
    """Return the real file with some cards changed or removed, and without checksums."""
    data = _BARE
    for key, value in cards.items():
        start = data.index(f"{key:8}=".encode())
        card = f"{key:8}= {value}" if value is not None else "COMMENT"
        data = data[:start] + card.encode().ljust(80) + data[start + 80 :]
    return data
