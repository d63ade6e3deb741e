"""AIA synoptic files: the real frame's header cards, rewritten for a rendered image.

Cards that a reader could depend on are set to fit the image. The rest, and the illegal unquoted
``nan`` cards, are copied from the real frame.
"""

from datetime import datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.absences import Condition, Quality
from sdoml_demo.render import solar_state
from sdoml_demo.render.aia import PASSBANDS, expose, render_pixels
from sdoml_demo.render.fits_file import BLANK, FitsFile, Number, split_header, write_file
from sdoml_demo.render.real_frames import AIA_HEADER

_FSN_START = datetime(2010, 3, 24)  # noqa: DTZ001 — only differences count


@cache
def _template() -> tuple[bytes, tuple[bytes, ...]]:
    """Return the real file's primary header and the cards of its image header up to END."""
    return split_header(AIA_HEADER.read_bytes())


def render_aia(minute: datetime, wavelength: int, condition: Condition) -> bytes:
    """Render a complete file, as the archive would serve it.

    Parameters
    ----------
    minute
        Minute in the file name: even, UTC.
    wavelength
        Wavelength in ångström.
    condition
        Result of `absences.condition`.
    """
    name = f"AIA{minute:%Y%m%d_%H%M}_{wavelength:04d}.fits"
    image = render_pixels(minute, wavelength, condition, seed=solar_state.digest("noise", name))
    primary, cards = _template()
    return write_file(
        FitsFile(primary, cards, image),
        _values(minute, wavelength, condition, image),
        stamp=f"{minute + timedelta(days=7):%Y-%m-%dT%H:%M:%S}",
    )


def _values(
    minute: datetime, wavelength: int, condition: Condition, image: NDArray[np.int32]
) -> dict[str, str | int | float]:
    """Return the cards that depend on the frame."""
    band, exposure = PASSBANDS[wavelength], expose(minute, wavelength)
    earth = solar_state.observe(exposure.start)
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
        "EXPTIME": Number(f"{exposure.seconds:.6f}"),
        "INT_TIME": Number(f"{exposure.seconds + 0.273382:.6f}"),
        "WAVELNTH": wavelength,
        "WAVE_STR": band.wave_str,
        "FSN": serial,
        "ASQFSN": serial,
        "AIAHFSN": serial - 8,
        "QUALITY": quality,
        "DATAVALS": total - missing,
        "MISSVALS": missing,
        "PERCENTD": Number(f"{100 * (1 - missing / total):.2f}"),
        "DATAMIN": int(sample[0]) - 5,
        "DATAMAX": int(sample[-1] * 1.1) + 1,
        "DATAMEDN": int(sample[sample.size // 2]),
        "DATAMEAN": Number(f"{sample.sum() / sample.size:.2f}"),
        "R_SUN": Number(f"{earth.rsun_obs / 0.600714:.6f}"),
        "ACS_MODE": "INERTIAL" if quality & Quality.NOT_SCIENCE_POINTING.value else "SCIENCE",
        "ACS_ECLP": "YES" if quality & 1 << 13 else "NO",
        "ACS_SUNP": "NO" if quality & 1 << 14 else "YES",
        "ACS_SAFE": "YES" if quality & 1 << 15 else "NO",
        "ORB_REC": f"sdo.fds_orbit_vectors[{minute:%Y.%m.%d_%H:%M}:00_UTC]",
        "DSUN_OBS": Number(f"{earth.distance:.2f}"),
        "RSUN_OBS": Number(f"{earth.rsun_obs:.6f}"),
        "CRLN_OBS": Number(f"{earth.carrington_longitude:.6f}"),
        "CRLT_OBS": Number(f"{earth.latitude:.6f}"),
        "CAR_ROT": earth.rotation,
        "AIMGSHCE": round(exposure.seconds * 1000),
        "RECNUM": serial // 9,
    }


def _hundredths(time: datetime) -> str:
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 10000:02d}"
