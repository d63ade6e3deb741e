"""Encode a frame as a FITS file that `sunpy.map.Map` opens."""

import io

import numpy as np

from sdoml_core.ephemeris import solar_radius
from sdoml_core.errors import DatasetError
from sdoml_core.wcs import frame_header
from sdoml_view.release import Release


def fits_map(release: Release, row: int, channel: str) -> bytes:
    """Encode a frame with its world coordinates.

    Values are in DN/s per camera pixel (AIA) or in gauss (HMI). If the normalization
    constants are unknown, the file contains the normalized values.

    Raises
    ------
    DatasetError
        If the frame does not exist.
    """
    from astropy.io import fits

    frames = release.frames(row, [channel])
    if channel not in frames:
        raise DatasetError(f"there is no {channel} frame at {release.slot(row):%Y-%m-%dT%H:%M}")
    info = release.info(row, channel)
    observed = info.observed or release.slot(row)
    cards = frame_header(
        channel,
        resolution=release.resolution,
        observed=observed,
        rsun_obs=info.rsun_obs or solar_radius(observed),
    )
    physical = release.physical(channel, frames[channel])
    header = fits.Header()
    if physical is None:
        cards.pop("BUNIT", None)
    elif channel == "HMI_M":
        cards["BUNIT"] = "Gauss"
    for name, value in cards.items():
        if not name.startswith("NAXIS"):
            header[name] = value
    if info.exposure is not None:
        header["EXPTIME"] = info.exposure
    header["ORIGIN"] = "SDOML-lite"
    pixels = frames[channel] if physical is None else physical
    buffer = io.BytesIO()
    # FITS counts rows from the south.
    fits.PrimaryHDU(np.ascontiguousarray(pixels[::-1]), header).writeto(buffer)
    return buffer.getvalue()
