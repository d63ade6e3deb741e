"""Decode AIA's synoptic FITS files, and process them into float32 frames with north up."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.errors import BlankFrameError, CorruptFrameError, WrongFrameError
from sdoml_core.fits.header import Header, find_image, verify_checksum
from sdoml_core.fits.pixels import read_pixels
from sdoml_core.frames.grid import PIXEL, SIZE, TARGET_RADIUS
from sdoml_core.frames.pointing import MIDDLE, REGISTERED, Pointing, read_pointing
from sdoml_core.frames.quality import state_reason
from sdoml_core.frames.resample import Warp, sum_blocks

_LEAP_SECOND = re.compile(r"(.*[T ][0-9]{2}:[0-9]{2}:)60(\.[0-9]+)?Z?")


@dataclass(frozen=True, slots=True, eq=False)
class AiaFrame:
    """A synoptic frame that has been decoded but not processed."""

    image: NDArray[np.float32]
    """Shape (1024, 1024), in DN per camera pixel (0.6″), not divided by the exposure time. Row 0 is
    the southernmost. Pixels without data are NaN."""

    observed: datetime
    """UTC start of the exposure (DATE-OBS, or T_OBS if it is missing)."""

    wavelength: int
    """Wavelength in ångström."""

    exposure: float
    """Exposure time in seconds."""

    quality: int
    """QUALITY from the header; see `quality_reason`."""

    rsun_obs: float
    """Angular radius of the Sun in arcseconds."""

    missing: int
    """Number of NaN pixels."""

    pointing: Pointing = REGISTERED
    """Pointing from the header."""

    not_science: str | None = None
    """Reason why the camera or spacecraft state rules out a science image; None for a science
    image. See `sdoml_core.frames.quality.state_reason`."""

    percent: float = 100.0
    """PERCENTD: percentage of the camera pixels that were received."""

    data_crc32: int | None = None
    """CRC-32 of the pixel data in the file, without the header."""


def decode_aia(data: bytes) -> AiaFrame:
    """Decode a synoptic FITS file.

    Quality, exposure and pointing are read from the header. `sdoml_core.frames.judge_aia` judges
    them.

    Parameters
    ----------
    data
        The whole file.

    Raises
    ------
    NotAnImageError
        If the bytes are empty, HTML, or FITS without a 2-D image.
    TruncatedFrameError
        If the bytes end before the image is complete.
    CorruptFrameError
        If a checksum, the structure or the compressed stream is wrong, or if a required card is
        missing or not a number. The message names the card.
    WrongFrameError
        If the image is not 1024×1024 pixels.
    """
    hdu = find_image(data)
    if hdu.shape != (SIZE, SIZE):
        raise WrongFrameError(
            f"the image is {hdu.shape[1]}×{hdu.shape[0]} pixels, not {SIZE}×{SIZE}"
        )
    verify_checksum(data, hdu)
    header = hdu.header
    observed = _time(header)
    wavelength = _integer(header, "WAVELNTH")
    quality = _integer(header, "QUALITY")
    exposure = _number(header, "EXPTIME")
    rsun_obs = _number(header, "RSUN_OBS")
    if not 900 < rsun_obs < 1050:  # the Earth's orbit gives 944″ to 976″
        raise CorruptFrameError(
            f"RSUN_OBS is {rsun_obs}, not a plausible solar radius in arcseconds"
        )
    percent = _number(header, "PERCENTD") if "PERCENTD" in header.cards else 100.0
    image, missing = read_pixels(data, hdu)
    return AiaFrame(
        image,
        observed,
        wavelength,
        exposure,
        quality,
        rsun_obs,
        missing,
        pointing=read_pointing(header),
        not_science=state_reason(header),
        percent=percent,
        data_crc32=crc32(memoryview(data)[hdu.data_start : hdu.data_start + hdu.data_size]),
    )


def process_aia(
    frame: AiaFrame,
    *,
    resolution: int,
    degradation: float,
    shortest_exposure: float | None = None,
    holes: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Scale the Sun, correct for exposure and degradation, sum blocks, and flip vertically.

    Let X be the positive part of the image, M = 1 where it is positive, and s = 976″ / RSUN_OBS.
    The result is the block sums of warp(X)·warp(M) / (EXPTIME · degradation), flipped vertically.
    These are the steps of SDOML-lite; see `sdoml_core.frames.resample` for the warp and for NaN
    pixels. A frame that is not registered is also shifted, scaled and rotated according to its
    pointing.

    Parameters
    ----------
    frame
        Decoded frame. Its QUALITY is not checked.
    resolution
        n, a divisor of 1024.
    degradation
        Degradation factor for the day and the wavelength, above 0.
    shortest_exposure
        Lower limit for EXPTIME in seconds. Use `SHORTEST_EXPOSURE` only to reproduce SDOML-lite,
        which raises any shorter EXPTIME to 0.01 s. By default, such frames are rejected.
    holes
        bool (n, n), filled in place: True for pixels that are 0 because the frame has no data
        there.

    Returns
    -------
    float32 (n, n), finite and nonnegative. Row 0 is the northernmost. Each pixel is the sum of
    (1024/n)² samples in DN/s per camera pixel (0.6″). Divide by (1024/n)² to get DN/s per camera
    pixel.

    Raises
    ------
    CorruptFrameError
        If EXPTIME is not above 0.
    BlankFrameError
        If no pixel is above 0.
    """
    if not (degradation > 0 and math.isfinite(degradation)):
        raise ValueError(f"the degradation factor must be above 0, not {degradation}")
    exposure = frame.exposure
    if shortest_exposure is not None:
        exposure = max(exposure, shortest_exposure)
    if not exposure > 0:
        raise CorruptFrameError(f"EXPTIME is {exposure:g} s, not above 0")
    if holes is not None:
        holes[...] = False
    processed = sum_blocks(
        frame.image,
        resolution=resolution,
        warp=warp_of(frame.pointing, frame.rsun_obs),
        divisor=exposure * degradation,
        complete=frame.missing == 0,
        holes=holes,
    )
    if not processed.max() > 0:
        raise BlankFrameError("no pixel is above 0")
    return processed


def warp_of(pointing: Pointing, rsun_obs: float) -> Warp:
    """Return the warp that gives the Sun the common position and size.

    As in the original SDOML-lite, a registered frame is scaled about N/2, which is half a pixel
    from the center of the Sun. Other frames are warped so that the Sun ends up in the same
    position.
    """
    scale = TARGET_RADIUS / rsun_obs
    if pointing.registered:
        return Warp(scale)
    zoom = scale * pointing.pixel / PIXEL
    # Position of the center of the Sun after the warp of a registered frame, relative to N/2 on the
    # fine grid.
    target = (MIDDLE - SIZE / 2) * scale
    roll = math.radians(pointing.roll)
    column = target * (math.cos(roll) + math.sin(roll)) / zoom
    row = target * (math.cos(roll) - math.sin(roll)) / zoom
    return Warp(
        zoom, pointing.x - SIZE / 2 - column, pointing.y - SIZE / 2 - row, roll=pointing.roll
    )


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
    """Return DATE-OBS, or T_OBS if it is missing. Both are UTC, with or without a Z."""
    for key in ("DATE-OBS", "T_OBS"):
        time = parse_utc(header.text(key) or "")
        if time is not None:
            return time
    found = [header.text(key) or "missing" for key in ("DATE-OBS", "T_OBS")]
    raise CorruptFrameError(f"no valid time: DATE-OBS is {found[0]}, T_OBS is {found[1]}")


def parse_utc(text: str) -> datetime | None:
    """Parse ISO text as a UTC time. Return None for other text.

    A datetime cannot represent a leap second (``23:59:60.3``), so the next second is returned.
    """
    leap = _LEAP_SECOND.fullmatch(text)
    try:
        time = datetime.fromisoformat(
            f"{leap[1]}59{leap[2] or ''}" if leap else text.removesuffix("Z")
        )
    except ValueError:
        return None
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return time + timedelta(seconds=1) if leap else time
