"""Standard colormaps: 256 colors per channel.

AIA channels use the AIA team's colormaps, as SunPy does (``sdoaia171`` and so on). HMI is gray, as
in the HMI image catalog. The table is part of the package, so neither SunPy nor matplotlib is
needed.
"""

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS

AIA_TABLE = tuple(name for name, channel in CHANNELS.items() if channel.instrument == "AIA")
"""Channels in the table, in the order of its rows."""


@cache
def _table() -> NDArray[np.uint8]:
    """Load the color table, uint8 of shape (9, 256, 3)."""
    with resources.files("sdoml_core").joinpath("data/colormaps.npy").open("rb") as file:
        table: NDArray[np.uint8] = np.load(file, allow_pickle=False)
    table.flags.writeable = False
    return table


def colormap(channel: str) -> NDArray[np.uint8]:
    """Return the RGB colors of 256 levels from dark to bright, as uint8 of shape (256, 3).

    Raises
    ------
    KeyError
        If the channel is unknown.
    """
    if CHANNELS[channel].instrument == "AIA":
        row: NDArray[np.uint8] = _table()[AIA_TABLE.index(channel)]
        return row
    return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def apply_colormap(channel: str, brightness: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Map brightness in [0, 1] to colors, as uint8 of shape (..., 3).

    Values outside [0, 1] are clipped. NaN (no data) gets the color of 0.
    """
    levels = np.clip(np.nan_to_num(brightness, nan=0.0) * 255 + 0.5, 0, 255).astype(np.uint8)
    colors: NDArray[np.uint8] = colormap(channel)[levels]
    return colors
