"""Compute a channel's signum-log statistics from its sketch, without reading pixels.

Surya standardizes sign(x)·log(1 + abs(x)) of each pixel x, and needs the mean and standard
deviation of this value over the training data.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import NormalizationError
from sdoml_core.frames.grid import samples_per_pixel
from sdoml_core.frames.magnetogram import level_to_gauss
from sdoml_core.normalization.constants import ChannelStatistics
from sdoml_core.normalization.sketch import Sketch

POINTS: Final = 8
"""Number of points per bin at which the transform is evaluated. Bins near 0 G are 0.2 to 2.3 G
wide."""


@dataclass(frozen=True, slots=True)
class SignumLogStatistics:
    """Statistics of one channel over the days of a sketch."""

    mean: float
    """Mean of sign(x)·log(1 + abs(x))."""

    std: float
    """Population standard deviation of sign(x)·log(1 + abs(x))."""

    minimum: float
    """Smallest x, in the unit of the export."""

    maximum: float
    """Largest x."""


def signum_log_statistics(
    sketch: Sketch, statistics: ChannelStatistics, *, resolution: int
) -> SignumLogStatistics:
    """Compute the statistics of exported pixels.

    Parameters
    ----------
    sketch
        Pixel counts of processed frames.
    statistics
        Constant and transform of the channel. Exported AIA pixels never exceed the constant.
    resolution
        Pixels along each side of the frames.

    Notes
    -----
    Values are assumed to be evenly distributed within a bin. A sketch does not record pixel
    positions. The outermost pixels of the HMI disk are therefore included with the field that their
    level represents, although an export sets them to 0. As a result, the mean is about 0.05 too low
    with ``SDOML_HMI_VALUES=level``.

    Raises
    ------
    NormalizationError
        If the sketch has no pixels, or the channel has no constant.
    """
    if not sketch.pixels or statistics.constant is None:
        raise NormalizationError(
            "signum-log statistics need a channel that has pixels and a normalization constant"
        )
    edges = np.stack([sketch.bins, sketch.bins + np.uint32(1)], axis=1).astype(np.uint32) << 16
    low, high = edges.view(np.float32).astype(np.float64).T
    steps = (np.arange(POINTS) + 0.5) / POINTS
    values = low[:, None] + (high - low)[:, None] * steps
    values = values.clip(sketch.minimum, sketch.maximum)
    physical = _physical(values, statistics, resolution)
    transformed = np.sign(physical) * np.log1p(np.abs(physical))
    weights = np.repeat(sketch.counts[:, None] / POINTS, POINTS, axis=1)
    mean = float((weights * transformed).sum()) / sketch.pixels  # zeros stay zero
    square = float((weights * transformed**2).sum()) / sketch.pixels
    extremes = _physical(np.array([sketch.minimum, sketch.maximum]), statistics, resolution)
    ends = np.append(np.nan_to_num(extremes), physical.ravel())
    return SignumLogStatistics(
        mean=mean,
        std=float(np.sqrt(max(square - mean**2, 0.0))),
        minimum=float(ends.min()),
        maximum=float(ends.max()),
    )


def _physical(
    values: NDArray[np.float64], statistics: ChannelStatistics, resolution: int
) -> NDArray[np.floating[Any]]:
    """Convert values of processed frames to the unit of the export."""
    constant = statistics.constant
    if constant is None:
        raise AssertionError
    if statistics.transform == "sqrt":
        return np.minimum(values, constant) / samples_per_pixel(resolution)
    if statistics.transform == "field":
        return (values - 0.5) * 2 * constant
    return level_to_gauss(values)
