"""Convert normalized values back to physical units, in place."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.frames.grid import samples_per_pixel
from sdoml_core.frames.magnetogram import level_to_gauss, mixed_limb
from sdoml_core.normalization.transform import denormalize

UNITS: Final = ("normalized", "dn", "gauss")


def check_units(units: str, channels: Sequence[str], constants: Mapping[str, Any]) -> None:
    """Refuse units that do not exist or that the dataset cannot provide.

    Raises
    ------
    DatasetError
        If the unit is unknown or does not apply to any of the channels.
    NormalizationError
        If the constants of the normalization are unknown.
    """
    if units not in UNITS:
        raise DatasetError(f"unknown units {units!r}; choose from {', '.join(UNITS)}")
    if units == "gauss" and "HMI_M" not in channels:
        raise DatasetError(f"units='gauss' is for HMI_M; the channels are {', '.join(channels)}")
    if units == "dn" and not any(name.startswith("AIA") for name in channels):
        raise DatasetError(f"units='dn' is for AIA; the channels are {', '.join(channels)}")
    for name in channels if units == "dn" else ():
        facts = constants.get(name, {})
        if name.startswith("AIA") and (facts.get("constant") is None or not facts.get("transform")):
            raise NormalizationError(
                f"units='dn' needs the constant of {name}, which is unknown: "
                "the shards have no index"
            )


def convert(
    pixels: NDArray[np.float32], channel: str, units: str, constants: Mapping[str, Any]
) -> None:
    """Change the units of a frame in place.

    Parameters
    ----------
    pixels
        Normalized values.
    channel
        Its name.
    units
        ``dn`` gives AIA channels in DN/s per pixel of the camera (0.6″): the inverse of
        y = √(min(x, c)/c), divided by (1024/n)², since a pixel is the sum of that many means.
        Values above c are returned as c. ``gauss`` gives HMI_M in gauss, NaN off the disk. If the
        shards hold levels, it is NaN also in the outermost pixels of the disk, whose levels are
        means over disk and sky. A channel to which the unit does not apply is not changed.
    constants
        ``constant`` (c) and ``transform`` of each channel.
    """
    if units == "dn" and channel.startswith("AIA"):
        facts = constants[channel]
        constant = facts["constant"] / samples_per_pixel(pixels.shape[0])
        denormalize(pixels, constant, pixels, transform=facts["transform"])
    elif units == "gauss" and channel == "HMI_M":
        facts = constants.get(channel, {})
        if facts.get("transform") == "field":
            denormalize(pixels, facts["constant"], pixels, transform="field")
            return
        limb = mixed_limb(pixels)
        pixels[...] = np.interp(pixels, *_gauss_table())
        pixels[limb] = np.nan


@cache
def _gauss_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a table of levels and fields in gauss. Exact inversion takes 20 times as long."""
    levels = np.linspace(0, 1, 1 << 16)
    return levels, level_to_gauss(levels)
