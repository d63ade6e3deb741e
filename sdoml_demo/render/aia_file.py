"""AIA synoptic files: the real frame's header cards, rewritten for a rendered image.

Cards that a reader could depend on are set to fit the image; the rest, and the illegal unquoted
``nan`` cards, stay as the archive wrote them. DATASUM and CHECKSUM are valid.
"""

import struct
from datetime import datetime, timedelta
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.absences import Condition, Quality
from sdoml_demo.render import solar_state as sky
from sdoml_demo.render.aia import BLANK, PASSBANDS, expose, render_pixels
from sdoml_demo.render.rice_encoder import encode_rows

_RECORD = 2880
_CARD = 80
_FSN_START = datetime(2010, 3, 24)  # noqa: DTZ001 — only differences count


@cache
def _template() -> tuple[bytes, tuple[bytes, ...]]:
    """The real file's primary header, and the cards of its image header up to END."""
    source = files("sdoml_demo") / "data" / "AIA20180820_1248_0193.fits"
    with source.open("rb") as file:
        primary = file.read(_RECORD)
        cards: list[bytes] = []
        while not cards or cards[-1].rstrip() != b"END":
            cards.append(file.read(_CARD))
    return primary, tuple(cards)


def render_aia(minute: datetime, wavelength: int, condition: Condition) -> bytes:
    """A whole file, as the archive would serve it.

    Parameters
    ----------
    minute
        As in the file name: even, UTC.
    wavelength
        In ångström.
    condition
        From `absences.condition`.
    """
    name = f"AIA{minute:%Y%m%d_%H%M}_{wavelength:04d}.fits"
    image = render_pixels(minute, wavelength, condition, seed=sky.digest("noise", name))
    heap, descriptors = encode_rows(image)
    table = descriptors.astype(">i4").tobytes()
    used = len(table) + heap.size
    data = b"".join((table, heap.data, bytes(-used % _RECORD)))
    values = _values(minute, wavelength, condition, image)
    values |= {
        "PCOUNT": heap.size,
        "TFORM1": f"1PB({descriptors[:, 0].max()})",
        "DATASUM": str(_ones_sum(data)),
        "CHECKSUM": "0" * 16,
    }
    primary, template = _template()
    stamp = f"HDU checksum updated {minute + timedelta(days=7):%Y-%m-%dT%H:%M:%S}"
    cards = []
    for card in template:
        keyword = card[:8].decode("ascii").rstrip()
        if keyword in ("CHECKSUM", "DATASUM"):
            text = f"{keyword:<8}= {_quoted(str(values[keyword])):<20} / {stamp}"
            cards.append(text.encode("ascii").ljust(_CARD))
        elif keyword in values:
            value = _card(keyword, values[keyword])
            comment = card[30:] if card[30:33] == b" / " else b""
            cards.append((value.ljust(30) + comment).ljust(_CARD)[:_CARD])
        else:
            cards.append(card)
    header = b"".join(cards)
    header += b" " * (-len(header) % _RECORD)
    checksum = _encode_checksum(_ones_sum(header, _ones_sum(data)))
    header = header.replace(b"'" + b"0" * 16 + b"'", b"'" + checksum + b"'", 1)
    return primary + header + data


def _values(
    minute: datetime, wavelength: int, condition: Condition, image: NDArray[np.int32]
) -> dict[str, str | int | float]:
    """The cards that depend on the frame; text, integers, or numbers already written out."""
    band, exposure = PASSBANDS[wavelength], expose(minute, wavelength)
    earth = sky.observe(exposure.start)
    quality = condition.quality
    some = image[::8, ::8]
    sample = np.sort(some[some != BLANK]) / 16
    missing = 16 * int(np.count_nonzero(image == BLANK)) if quality or condition.spotted else 0
    total = 4096 * 4096
    serial = int((minute.replace(tzinfo=None) - _FSN_START) / timedelta(seconds=1.5))
    observed = exposure.middle
    return {
        "DATE": f"{minute + timedelta(days=7):%Y-%m-%dT%H:%M:%S}",
        "INSTRUME": f"AIA_{band.camera}",
        "CAMERA": band.camera,
        "DATE-OBS": _hundredths(exposure.start),
        "T_OBS": _hundredths(observed) + "Z",
        "T_REC": f"{minute + timedelta(seconds=round(band.second)):%Y-%m-%dT%H:%M:%S}Z",
        "IMG_TYPE": "DARK" if quality & Quality.DARK.value else "LIGHT",
        "EXPTIME": _Number(f"{exposure.seconds:.6f}"),
        "INT_TIME": _Number(f"{exposure.seconds + 0.273382:.6f}"),
        "WAVELNTH": wavelength,
        "WAVE_STR": band.wave_str,
        "FSN": serial,
        "ASQFSN": serial,
        "AIAHFSN": serial - 8,
        "QUALITY": quality,
        "DATAVALS": total - missing,
        "MISSVALS": missing,
        "PERCENTD": _Number(f"{100 * (1 - missing / total):.2f}"),
        "DATAMIN": int(sample[0]) - 5,
        "DATAMAX": int(sample[-1] * 1.1) + 1,
        "DATAMEDN": int(sample[sample.size // 2]),
        "DATAMEAN": _Number(f"{sample.sum() / sample.size:.2f}"),
        "R_SUN": _Number(f"{earth.rsun_obs / 0.600714:.6f}"),
        "ACS_MODE": "INERTIAL" if quality & Quality.NOT_SCIENCE_POINTING.value else "SCIENCE",
        "ACS_ECLP": "YES" if quality & 1 << 13 else "NO",
        "ACS_SUNP": "NO" if quality & 1 << 14 else "YES",
        "ACS_SAFE": "YES" if quality & 1 << 15 else "NO",
        "ORB_REC": f"sdo.fds_orbit_vectors[{minute:%Y.%m.%d_%H:%M}:00_UTC]",
        "DSUN_OBS": _Number(f"{earth.distance:.2f}"),
        "RSUN_OBS": _Number(f"{earth.rsun_obs:.6f}"),
        "CRLN_OBS": _Number(f"{earth.carrington_longitude:.6f}"),
        "CRLT_OBS": _Number(f"{earth.latitude:.6f}"),
        "CAR_ROT": earth.rotation,
        "AIMGSHCE": round(exposure.seconds * 1000),
        "RECNUM": serial // 9,
    }


class _Number(str):
    """A number that is already written as the card should have it."""

    __slots__ = ()


def _hundredths(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 10000:02d}"


def _quoted(text: str) -> str:
    return f"'{text:<8}'"


def _card(keyword: str, value: str | float) -> bytes:
    """Keyword and value in the archive's own style: integers flush right, other numbers left."""
    if isinstance(value, _Number):
        text = str(value)
    elif isinstance(value, str):
        text = _quoted(value)
    else:
        text = f"{value:>20}"
    return f"{keyword:<8}= {text}".encode("ascii")


def _ones_sum(data: bytes, start: int = 0) -> int:
    """The 32-bit ones'-complement sum of the FITS checksum convention (appendix J)."""
    total = int(np.frombuffer(data, ">u4").sum(dtype=np.uint64)) + start
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def _encode_checksum(total: int) -> bytes:
    """Write the complement of a sum as 16 letters and digits (FITS standard 4.0, appendix J)."""
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
