"""Map pixels to display levels, with a fixed scale for each channel.

Each channel has the same range in DN/s for all frames and datasets. Movies therefore do not
flicker, and you can compare two dates by eye.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from sdoml_core.frames.grid import samples_per_pixel
from sdoml_core.frames.magnetogram import gauss_to_level

STEPS: Final = 1 << 16
"""Number of distinct normalized values. If a flare determines a constant, the disk is below 0.01,
and 8 bits would show bands."""

DIFFERENCE_GAIN: Final = 3.0
"""A difference of 1/3 of the display range is drawn as black or white."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Display range of a channel in DN/s per camera pixel (0.6″)."""

    black: float
    white: float
    scale: Literal["linear", "sqrt", "log"]

    def levels(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the brightness in [0, 1] of values in DN/s."""
        clipped = np.clip(values, self.black, self.white)
        if self.scale == "linear":
            low, high, position = self.black, self.white, clipped
        else:
            function = np.sqrt if self.scale == "sqrt" else np.log
            low, high = float(function(self.black)), float(function(self.white))
            position = function(clipped)
        result: NDArray[np.float64] = (position - low) / (high - low)
        return result


STRETCHES: Final[Mapping[str, Stretch]] = {
    "AIA_0094": Stretch(0.3, 10, "sqrt"),
    "AIA_0131": Stretch(1.0, 170, "log"),
    "AIA_0171": Stretch(2.0, 1200, "sqrt"),
    "AIA_0193": Stretch(40, 2000, "log"),
    "AIA_0211": Stretch(6, 2600, "log"),
    "AIA_0304": Stretch(3, 120, "log"),
    "AIA_0335": Stretch(0.5, 140, "log"),
    "AIA_1600": Stretch(1, 330, "sqrt"),
    "AIA_1700": Stretch(1, 2500, "linear"),
}
"""Ranges of the AIA team's browse images (``aia_intscale`` in SolarSoft), divided by the usual
exposure times. There are two exceptions. 304 Å is darker today even after the correction, and
1600 Å uses a square root, so that the quiet Sun is visible."""


def level_table(channel: str, constants: Mapping[str, Any], resolution: int) -> NDArray[np.float32]:
    """Return the display level in [0, 1] of each of the `STEPS` normalized values.

    Parameters
    ----------
    channel
        Name of the channel.
    constants
        ``constant`` and ``transform`` of the channel; see `Catalog.constants`. If they are
        unknown, the level is the normalized value.
    resolution
        n, pixels along each side of the frames.

    Returns
    -------
    float32 of shape (STEPS,). Index i is for the normalized value i / (STEPS − 1).
    """
    normalized = np.linspace(0, 1, STEPS)
    constant, transform = constants.get("constant"), constants.get("transform")
    if channel in STRETCHES and constant and transform in {"sqrt", "linear"}:
        power = 2 if transform == "sqrt" else 1
        values = normalized**power * constant / samples_per_pixel(resolution)
        levels = STRETCHES[channel].levels(values)
    elif transform == "field" and constant:
        levels = gauss_to_level((normalized - 0.5) * 2 * constant)
        levels[0] = 0  # pixels without data are black
    else:
        levels = normalized
    return levels.astype(np.float32)


def to_levels(pixels: NDArray[np.float32], table: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the display levels (0 … 255) of normalized pixels."""
    coarse = np.rint(table * 255).astype(np.uint8)
    levels: NDArray[np.uint8] = coarse[_steps(pixels)]
    return levels


def difference_levels(
    pixels: NDArray[np.float32], before: NDArray[np.float32], table: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Return the difference between two frames as gray levels: 128 is none, higher is brighter."""
    change = table[_steps(pixels)] - table[_steps(before)]
    gray: NDArray[np.uint8] = np.clip(
        np.rint(change * (127 * DIFFERENCE_GAIN)) + 128, 1, 255
    ).astype(np.uint8)
    return gray


def _steps(pixels: NDArray[np.float32]) -> NDArray[np.uint16]:
    scaled = np.clip(pixels, 0, 1) * np.float32(STEPS - 1)
    steps: NDArray[np.uint16] = (scaled + np.float32(0.5)).astype(np.uint16)
    return steps
