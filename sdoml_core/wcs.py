"""World coordinates of processed frames, as FITS cards.

Processing scales the Sun to the same size on every date: at 1024², the radius of the photosphere is
406.7 pixels, or 976″ at 2.4″ per pixel. The true apparent radius is RSUN_OBS, so a pixel of the
1024² grid spans 2.4″ · RSUN_OBS/976.

Row 0 is the southernmost row in FITS and sunpy, but the northernmost row of processed frames. A
negative CDELT2 would also be correct, but every plot would be upside down. The header therefore
describes the vertically flipped frame::

    sunpy.map.Map(frame[::-1], frame_header("AIA_0193", resolution=512, ...))
"""

import math
from datetime import UTC, datetime, timedelta

from sdoml_core.channels import CHANNELS
from sdoml_core.ephemeris import SOLAR_RADIUS_KM, heliographic_latitude
from sdoml_core.frames.grid import GEOMETRIC_SCALE, PIXEL, SIZE, TARGET_RADIUS

_TELESCOPES = {94: 4, 131: 1, 171: 3, 193: 2, 211: 2, 304: 4, 335: 1, 1600: 3, 1700: 3}
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)


def frame_header(
    channel: str,
    *,
    resolution: int,
    observed: datetime | str,
    rsun_obs: float,
    hmi_scale: float = GEOMETRIC_SCALE,
) -> dict[str, str | int | float]:
    """Return the FITS cards of a vertically flipped processed frame, with row 0 in the south.

    Let s be the scale of the warp, let k = 1024/n, and let the Sun's center be at 511.5 (0-based)
    in the input. The warp moves it to 512 − s/2, and the sum of k×k blocks moves it to CRPIX =
    (512.5 − s/2)/k + 1/2 (1-based). This holds for both axes of AIA frames, which are warped with
    south up. HMI frames are warped with north up, so their CRPIX2 is counted from the other end.

    Parameters
    ----------
    channel
        ``AIA_0193`` … ``HMI_M``.
    resolution
        n, pixels along each side.
    observed
        Observation time of the frame, as a datetime or as an ISO string like those in the loader's
        metadata. Times without a time zone are UTC.
    rsun_obs
        Apparent radius of the Sun in arcseconds, from the frame's row in the index.
    hmi_scale
        Scale with which HMI frames were processed, as a number.

    Returns
    -------
    Cards for `sunpy.map.Map` and `astropy.wcs.WCS`. The observer is on the line from the Sun to the
    Earth, at the distance that follows from RSUN_OBS. SDO is never more than 0.02° from this line.
    BUNIT is DN/s per camera pixel (0.6″), as with ``units="dn"`` in the loader. To convert a frame
    from the store to this unit, divide it by `sdoml_core.frames.grid.samples_per_pixel`. HMI has no
    BUNIT.

    Raises
    ------
    ValueError
        If the channel does not exist or the string is not an ISO time.
    """
    if channel not in CHANNELS:
        raise ValueError(f"unknown channel {channel!r}; choose from {', '.join(CHANNELS)}")
    time = datetime.fromisoformat(observed) if isinstance(observed, str) else observed
    time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    known = CHANNELS[channel]
    aia = known.instrument == "AIA"
    scale = TARGET_RADIUS / rsun_obs * (1 if aia else hmi_scale)
    block = SIZE // resolution
    pixel = PIXEL * (1 if aia else GEOMETRIC_SCALE) / scale * block
    center = (SIZE / 2 + 0.5 - scale / 2) / block + 0.5
    header: dict[str, str | int | float] = {
        "NAXIS": 2,
        "NAXIS1": resolution,
        "NAXIS2": resolution,
        "CTYPE1": "HPLN-TAN",
        "CTYPE2": "HPLT-TAN",
        "CUNIT1": "arcsec",
        "CUNIT2": "arcsec",
        "CRPIX1": center,
        "CRPIX2": center if aia else resolution + 1 - center,
        "CRVAL1": 0.0,
        "CRVAL2": 0.0,
        "CDELT1": pixel,
        "CDELT2": pixel,
        "CROTA2": 0.0,
        "RSUN_REF": SOLAR_RADIUS_KM * 1e3,
        "RSUN_OBS": rsun_obs,
        "DSUN_OBS": SOLAR_RADIUS_KM * 1e3 / math.sin(math.radians(rsun_obs / 3600)),
        "HGLN_OBS": 0.0,
        "HGLT_OBS": heliographic_latitude(time),
        "DATE-OBS": time.replace(tzinfo=None).isoformat("T", "milliseconds"),
        "MJD-OBS": (time - _MJD_EPOCH) / timedelta(days=1),  # astropy warns if this card is missing
        "TIMESYS": "UTC",
        "TELESCOP": f"SDO/{known.instrument}",
        "INSTRUME": f"AIA_{_TELESCOPES[known.wavelength]}" if aia else "HMI",
        "WAVELNTH": known.wavelength,
        "WAVEUNIT": "angstrom",
    }
    return header | ({"BUNIT": "DN / (pix s)"} if aia else {"CONTENT": "MAGNETOGRAM"})
