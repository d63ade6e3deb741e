"""AIA frames: from the bytes of a synoptic FITS file to float32 blocks with north up."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import BlankFrameError, CorruptFrameError, WrongFrameError
from sdoml_core.fits.header import Header, find_image, verify_checksum
from sdoml_core.fits.pixels import read_pixels
from sdoml_core.frames.grid import SIZE, TARGET_RADIUS
from sdoml_core.frames.resample import sum_blocks

SHORTEST_EXPOSURE = 0.01
"""Seconds; what an EXPTIME below it counts as."""

_QUICKLOOK = 1 << 30  # says how early the file was made, nothing about its quality

_QUALITY_BITS = {
    0: "no flat field",
    1: "no orbit data",
    2: "no ancillary science data",
    3: "no master pointing",
    4: "no limb fit",
    8: "pixels missing",
    9: "more than 1 % of pixels missing",
    10: "more than 5 % of pixels missing",
    11: "more than 25 % of pixels missing",
    12: "not in science pointing",
    13: "eclipse",
    14: "no sun presence",
    15: "safe mode",
    16: "dark image",
    17: "image stabilisation loop open",
    18: "calibration image",
    20: "focus out of range",
    21: "register flag",
    30: "near-real-time",
    31: "image not available",
}


@dataclass(frozen=True, slots=True, eq=False)
class AiaFrame:
    """One synoptic frame as the archive serves it."""

    image: NDArray[np.float32]
    """(1024, 1024) DN per original 0.6″ pixel, not divided by exposure; row 0 is south; NaN where
    there is no data."""

    observed: datetime
    """UTC start of the exposure (DATE-OBS, else T_OBS)."""

    wavelength: int
    """Ångström."""

    exposure: float
    """Seconds."""

    quality: int
    """QUALITY as the header has it; see `quality_reason`."""

    rsun_obs: float
    """Angular radius of the Sun in arcseconds."""

    missing: int
    """Number of NaN pixels."""


def decode_aia(data: bytes) -> AiaFrame:
    """Decode a synoptic FITS file. A bad QUALITY is on record in the result, no error.

    Parameters
    ----------
    data
        The whole file.

    Raises
    ------
    NotAnImageError
        For empty bytes, HTML, or FITS without a 2-D image.
    TruncatedFrameError
        Where the bytes end before the image does.
    CorruptFrameError
        For a checksum, structure or stream that is wrong, and for a card that is needed but
        missing or not a number; the message names it.
    WrongFrameError
        For an image that is not 1024×1024.
    """
    hdu = find_image(data)
    if hdu.shape != (SIZE, SIZE):
        raise WrongFrameError(f"{hdu.shape[1]}×{hdu.shape[0]} pixels, not {SIZE}×{SIZE}")
    verify_checksum(data, hdu)
    header = hdu.header
    observed = _time(header)
    wavelength = _integer(header, "WAVELNTH")
    quality = _integer(header, "QUALITY")
    exposure = _number(header, "EXPTIME")
    rsun_obs = _number(header, "RSUN_OBS")
    if not 900 < rsun_obs < 1050:  # 944″ to 976″ from the Earth's orbit
        raise CorruptFrameError(f"RSUN_OBS is {rsun_obs}, which is no solar radius in arcseconds")
    image, missing = read_pixels(data, hdu)
    return AiaFrame(image, observed, wavelength, exposure, quality, rsun_obs, missing)


def quality_reason(quality: int) -> str | None:
    """Why a QUALITY says that a frame is no science image, in words.

    Parameters
    ----------
    quality
        The 32-bit word of the header, signed or not. The bits are those of the SDO user guide,
        section 7.7.6.

    Returns
    -------
    Such as ``"QUALITY 0x00002000: eclipse (bit 13)"``; None where it is good. Bit 30 alone is
    good: it only says that the file was made in near-real time.
    """
    word = quality & 0xFFFFFFFF
    if not word & ~_QUICKLOOK:
        return None
    bits = [bit for bit in range(32) if word >> bit & 1]
    reasons = ", ".join(
        f"{_QUALITY_BITS[bit]} (bit {bit})" if bit in _QUALITY_BITS else f"bit {bit}"
        for bit in bits
    )
    return f"QUALITY 0x{word:08X}: {reasons}"


def process_aia(
    frame: AiaFrame,
    *,
    resolution: int,
    degradation: float,
) -> NDArray[np.float32]:
    """Scale the Sun to its common size, correct exposure and degradation, sum blocks, turn.

    With X the positive part of the image, M = 1 where it is positive, s = 976″ / RSUN_OBS,
    t = max(EXPTIME, 0.01 s): block sums of warp(X)·warp(M) / (t · degradation), upside down.
    These are the steps of SDOML-lite; see `sdoml_core.frames.resample` for the warp and for NaN
    pixels.

    Parameters
    ----------
    frame
        As decoded; its QUALITY is not looked at.
    resolution
        n, a divisor of 1024.
    degradation
        Factor of the day and wavelength, above 0.

    Returns
    -------
    float32 (n, n), DN/s per n-th of the field, never below 0, finite; row 0 is north.

    Raises
    ------
    BlankFrameError
        Where no pixel is above 0.
    """
    if not (degradation > 0 and math.isfinite(degradation)):
        raise ValueError(f"degradation factor {degradation} is not above 0")
    processed = sum_blocks(
        frame.image,
        resolution=resolution,
        scale=TARGET_RADIUS / frame.rsun_obs,
        divisor=max(frame.exposure, SHORTEST_EXPOSURE) * degradation,
        complete=frame.missing == 0,
    )
    if not processed.max() > 0:
        raise BlankFrameError("no pixel is above 0")
    return processed


def _number(header: Header, key: str) -> float:
    value = header.number(key)
    if value is None or not math.isfinite(value):
        raise CorruptFrameError(f"{key} is {header.text(key) or 'missing'}")
    return value


def _integer(header: Header, key: str) -> int:
    value = _number(header, key)
    if value != int(value):
        raise CorruptFrameError(f"{key} is {value}, not a whole number")
    return int(value)


def _time(header: Header) -> datetime:
    """DATE-OBS, else T_OBS; both are UTC, with and without a Z."""
    for key in ("DATE-OBS", "T_OBS"):
        text = header.text(key)
        if text is None:
            continue
        try:
            time = datetime.fromisoformat(text.removesuffix("Z"))
        except ValueError:
            continue
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    found = [header.text(key) or "missing" for key in ("DATE-OBS", "T_OBS")]
    raise CorruptFrameError(f"DATE-OBS is {found[0]}, T_OBS {found[1]}")
