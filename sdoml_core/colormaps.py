"""The field's own colours: one map of 256 colours per channel.

AIA channels have the maps that the AIA team chose and SunPy carries (``sdoaia171`` and so on);
HMI is grey, as in its image catalogue. The table is package data, so that a picture needs neither
SunPy nor matplotlib.
"""

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS

AIA_TABLE = tuple(name for name, channel in CHANNELS.items() if channel.instrument == "AIA")
"""The channels of the table's rows, in order."""


@cache
def _table() -> NDArray[np.uint8]:
    """Colours, uint8 of shape (9, 256, 3)."""
    with resources.files("sdoml_core").joinpath("data/colormaps.npy").open("rb") as file:
        table: NDArray[np.uint8] = np.load(file, allow_pickle=False)
    table.flags.writeable = False
    return table


def colormap(channel: str) -> NDArray[np.uint8]:
    """Red, green and blue of 256 levels, dark to bright: uint8 of shape (256, 3).

    Raises
    ------
    KeyError
        For a channel that does not exist.
    """
    if CHANNELS[channel].instrument == "AIA":
        row: NDArray[np.uint8] = _table()[AIA_TABLE.index(channel)]
        return row
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def apply_colormap(channel: str, brightness: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours of brightnesses in [0, 1], which are clipped: uint8 of shape (..., 3).

    NaN, a pixel without data, is as dark as 0.
    """
    levels = np.clip(np.nan_to_num(brightness, nan=0.0) * 255 + 0.5, 0, 255).astype(np.uint8)
    colours: NDArray[np.uint8] = colormap(channel)[levels]
    return colours
