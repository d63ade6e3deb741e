"""Convert normalized values to physical units and back, in place."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.frames.grid import samples_per_pixel
from sdoml_core.frames.magnetogram import (
    gauss_to_level,
    gauss_to_stored,
    level_to_gauss,
    mixed_limb,
)
from sdoml_core.normalization.transform import denormalize, normalize

UNITS: Final = ("normalized", "dn", "gauss", "physical")
Units = str | Mapping[str, str]


def check_units(
    units: Units, channels: Sequence[str], constants: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the unit of each channel: ``normalized``, ``dn`` or ``gauss``.

    Parameters
    ----------
    units
        A unit for all channels to which it applies, ``physical`` for the physical unit of each
        channel, or a dictionary of units by channel. Other channels stay normalized.
    channels
        Names of the channels.
    constants
        ``constant`` and ``transform`` of each channel.

    Raises
    ------
    DatasetError
        If a unit is unknown, or does not apply to its channel or to any channel.
    NormalizationError
        If the normalization constants are unknown.
    """
    if isinstance(units, str):
        _check_known(units)
        if units == "gauss" and "HMI_M" not in channels:
            raise DatasetError(
                f"units='gauss' applies only to HMI_M; the channels are {', '.join(channels)}"
            )
        if units == "dn" and not any(name.startswith("AIA") for name in channels):
            raise DatasetError(
                f"units='dn' applies only to AIA channels; the channels are {', '.join(channels)}"
            )
        wanted = {name: physical_unit(name) for name in channels}
        found = tuple(
            unit if units in {unit, "physical"} else "normalized" for unit in wanted.values()
        )
    else:
        found = _by_channel(units, channels)
    for name, unit in zip(channels, found, strict=True):
        facts = constants.get(name, {})
        if unit == "dn" and (facts.get("constant") is None or not facts.get("transform")):
            raise NormalizationError(
                f"unit 'dn' needs the normalization constant of {name}, which is unknown because "
                "the shards have no index"
            )
    return found


def physical_unit(channel: str) -> str:
    """Return ``dn`` for AIA and ``gauss`` for HMI."""
    return "dn" if channel.startswith("AIA") else "gauss"


def _check_known(unit: str) -> None:
    if unit not in UNITS:
        raise DatasetError(f"unknown unit {unit!r}; choose from {', '.join(UNITS)}")


def _by_channel(units: Mapping[str, str], channels: Sequence[str]) -> tuple[str, ...]:
    given = {name.upper(): unit for name, unit in units.items()}
    for name, unit in given.items():
        _check_known(unit)
        if name not in channels:
            raise DatasetError(
                f"the units dictionary contains {name}, which is not a requested channel; the "
                f"channels are {', '.join(channels)}"
            )
        if unit not in {"normalized", "physical", physical_unit(name)}:
            raise DatasetError(
                f"{name} cannot be converted to {unit!r}: its physical unit is "
                f"{physical_unit(name)!r}"
            )
    found = ((name, given.get(name, "normalized")) for name in channels)
    return tuple(physical_unit(name) if unit == "physical" else unit for name, unit in found)


def convert(
    pixels: NDArray[np.float32],
    channel: str,
    units: str,
    constants: Mapping[str, Any],
    *,
    side: int | None = None,
) -> None:
    """Convert a frame to other units, in place.

    Parameters
    ----------
    pixels
        Normalized values.
    channel
        Name of the channel.
    units
        ``dn`` converts AIA channels to DN/s per camera pixel (0.6″): it inverts y =
        √(min(x, c)/c), and divides x by (1024/n)², the factor between processed pixels and DN/s per
        camera pixel. Values of x above c were stored as c. ``gauss`` converts HMI_M to gauss, with
        NaN off the disk. If the shards contain levels, the outermost pixels of the disk are also
        NaN, because their levels are averages of disk and sky. A channel to which the unit does not
        apply is not changed.
    constants
        ``constant`` c and ``transform`` of each channel.
    side
        Resolution n of the dataset. Required if the pixels are only a part of a frame.
    """
    if units == "dn" and channel.startswith("AIA"):
        facts = constants[channel]
        constant = facts["constant"] / samples_per_pixel(side or pixels.shape[0])
        denormalize(pixels, constant, pixels, transform=facts["transform"])
    elif units == "gauss" and channel == "HMI_M":
        facts = constants.get(channel, {})
        if facts.get("transform") == "field":
            denormalize(pixels, facts["constant"], pixels, transform="field")
            return
        limb = mixed_limb(pixels)
        pixels[...] = np.interp(pixels, *_gauss_table())
        pixels[limb] = np.nan


def restore(
    pixels: NDArray[np.float32],
    channel: str,
    units: str,
    constants: Mapping[str, Any],
    *,
    side: int,
) -> None:
    """Convert physical values to normalized values, in place. This is the inverse of `convert`.

    Values above the constant or outside the field range are clipped. NaN becomes 0, the stored
    value of pixels without data. The parameters are the same as for `convert`.
    """
    if units == "dn" and channel.startswith("AIA"):
        facts = constants[channel]
        constant = facts["constant"] / samples_per_pixel(side)
        normalize(np.nan_to_num(pixels, nan=0.0), constant, pixels, transform=facts["transform"])
    elif units == "gauss" and channel == "HMI_M":
        facts = constants.get(channel, {})
        if facts.get("transform") == "field":
            stored = gauss_to_stored(pixels, field_range=facts["constant"])
            pixels[...] = np.clip(stored, 0, 1)
        else:
            pixels[...] = np.where(np.isnan(pixels), 0, gauss_to_level(np.nan_to_num(pixels)))


@cache
def _gauss_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a table of levels and fields in gauss. The exact inversion takes 20 times as long."""
    levels = np.linspace(0, 1, 1 << 16)
    return levels, level_to_gauss(levels)
