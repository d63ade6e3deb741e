"""The two real frames as planes, from which everything is painted."""

import warnings
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from numpy.typing import NDArray

SIZE = 1024
CENTRE = (SIZE - 1) / 2
PROFILE_STEP = 1 / 512
"""Of radial profiles, in solar radii; they reach to the corners, 1.9 radii."""
PROFILE_BINS = 1000

_HMI_BEFORE_AIA = 3.81 / 24 * 13.45  # degrees that the Sun turned between the two real frames


@dataclass(frozen=True, slots=True)
class Planes:
    """What the real frames give."""

    texture: NDArray[np.float32]
    """193 Å over its mean profile, about 1 on the quiet Sun; shape (1024, 1024), south up."""
    texture_radius: float
    """Solar radius of that plane in pixels; its centre is at (511.5, 511.5)."""
    field: NDArray[np.float32]
    """Line-of-sight field in gauss, 0 off the disk; shape (1024, 1024), south up."""
    field_geometry: NDArray[np.float64]
    """Its centre's column and row, and radius, in pixels."""
    field_turn: NDArray[np.float64]
    """Sine and cosine of the angle by which the field's frame is older."""
    profile: NDArray[np.float64]
    """The mean radial profile of the 193 Å frame, 1 at the centre."""


@cache
def planes() -> Planes:
    """The planes, from the packaged frames; computed once in each process."""
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the archive's headers have illegal cards
        folder = files("sdoml_demo") / "data"
        with as_file(folder / "AIA20180820_1248_0193.fits") as path:
            intensity = np.asarray(fits.getdata(path, 1), np.float64)
            radius = float(fits.getheader(path, 1)["RSUN_OBS"]) / 2.4
        with as_file(folder / "hmi.M_720s_nrt.20180820_090000_TAI.fits") as path:
            field = np.nan_to_num(np.asarray(fits.getdata(path, 1), np.float32))
            header = fits.getheader(path, 1)
            geometry = np.array(
                [
                    header["CRPIX1"] - 1,
                    header["CRPIX2"] - 1,
                    header["RSUN_OBS"] / header["CDELT1"],
                ]
            )
    offsets = (np.arange(SIZE) - CENTRE) / radius
    distance = np.sqrt(offsets[:, None] ** 2 + offsets[None, :] ** 2)
    profile = _radial_profile(intensity, distance)
    expected = _look_up(profile, distance)
    texture = np.clip(intensity / expected, 0.0, 15.9)
    turn = _HMI_BEFORE_AIA / 180 * 3.141592653589793
    sine = turn - turn**3 / 6  # of a small angle; a platform's own sine is not needed
    return Planes(
        texture=texture.astype(np.float32),
        texture_radius=radius,
        field=field,
        field_geometry=geometry,
        field_turn=np.array([sine, float(np.sqrt(1 - sine * sine))]),
        profile=profile / profile[0],
    )


def _radial_profile(
    image: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Mean of each ring, bright points clipped, smoothed a little away from the limb."""
    ring = np.minimum((distance / PROFILE_STEP + 0.5).astype(np.intp), PROFILE_BINS - 1).ravel()
    count = np.bincount(ring, minlength=PROFILE_BINS)
    # bright regions would put rings into the profile: integers sum without rounding
    units = np.clip(np.rint(image.ravel() * 16), 0, 16 * 450).astype(np.int64)
    total = np.bincount(ring, units, minlength=PROFILE_BINS).astype(np.int64)
    result = np.zeros(PROFILE_BINS)
    for index in range(PROFILE_BINS):
        radius = index * PROFILE_STEP
        reach = 1 if 0.97 < radius < 1.06 else 12 if radius > 0.15 else 60
        window = slice(max(0, index - reach), index + reach + 1)
        pixels = int(count[window].sum())
        # beyond the corners there is nothing: the last ring goes on
        result[index] = int(total[window].sum()) / (16 * pixels) if pixels else result[index - 1]
    return np.maximum(result, 0.05)


def _look_up(profile: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    place = np.minimum(distance / PROFILE_STEP, PROFILE_BINS - 2)
    index = place.astype(np.intp)
    part = place - index
    result: NDArray[np.float64] = profile[index] * (1 - part) + profile[index + 1] * part
    return result
