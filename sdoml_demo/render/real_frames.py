"""The packaged real frames, decoded."""

import warnings
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

import numpy as np
from numpy.typing import NDArray

WAVELENGTHS = (94, 131, 171, 193, 211, 335)
"""Ångström; the EUV channels that have a real frame."""

_DATA = files("sdoml_demo") / "data"

AIA_HEADER = _DATA / "AIA20180820_1248_0193.fits"
"""The file whose header cards all rendered AIA files take over."""


@dataclass(frozen=True, slots=True, eq=False)
class RealImage:
    """A real AIA image."""

    pixels: NDArray[np.int64]
    """Sixteenths of a DN, as the archive stores them; shape (1024, 1024), south up."""
    radius: float
    """Solar radius in pixels."""
    exposure: float
    """Seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class RealField:
    """A real magnetogram."""

    gauss: NDArray[np.float32]
    """Field along the line of sight, 0 off the disk; shape (1024, 1024), south up."""
    column: float
    """Column of the disk center."""
    row: float
    """Row of the disk center."""
    radius: float
    """Radius of the disk in pixels."""


def euv_image(wavelength: int) -> RealImage:
    """Read the frame of 2014-01-01 00:00 UTC at one of `WAVELENGTHS`."""
    pixels, header = _read(_DATA / "real_2014" / f"AIA20140101_0000_{wavelength:04d}.fits")
    return RealImage(
        pixels=np.rint(np.asarray(pixels, np.float64) * 16).astype(np.int64),
        radius=header["RSUN_OBS"] / header["CDELT1"],
        exposure=header["EXPTIME"],
    )


def magnetogram() -> RealField:
    """Read the line-of-sight magnetogram of 2018-08-20 09:00 TAI."""
    pixels, header = _read(_DATA / "hmi.M_720s_nrt.20180820_090000_TAI.fits")
    return RealField(
        gauss=np.nan_to_num(np.asarray(pixels, np.float32)),
        column=header["CRPIX1"] - 1,
        row=header["CRPIX2"] - 1,
        radius=header["RSUN_OBS"] / header["CDELT1"],
    )


def _read(file: Traversable) -> tuple[NDArray[np.float64], dict[str, float]]:
    """Read the pixels, geometry and exposure with astropy.

    The decoder of the pipeline is not used, because the simulator would repeat its errors.
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the archive's headers have illegal cards
        with as_file(file) as path, fits.open(path) as hdus:
            header = hdus[1].header
            names = ("CRPIX1", "CRPIX2", "CDELT1", "RSUN_OBS", "EXPTIME")
            cards = {name: float(header[name]) for name in names if name in header}
            return np.array(hdus[1].data), cards
