"""Compute constants and statistics from merged sketches, without reading pixels.

A fit over the whole mission takes seconds.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import NormalizationError
from sdoml_core.frames.magnetogram import FIELD_RANGE
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.method import Method, parse_method
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import Transform, transform_of

LISTED_QUANTILES: Final = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 0.9999)
"""Quantiles in the statistics of each channel. They help users judge the constant."""

FIXED_CONSTANTS: Final[Mapping[Transform, float]] = {"linear": 1.0, "field": FIELD_RANGE}
"""Constants that need no fit. HMI frames contain levels in [0, 1], or fields with a fixed
range."""


def fit(
    sketches: Mapping[str, Sketch],
    *,
    method: Method | str,
    resolution: int,
    first_day: date,
    last_day: date,
    days: int,
    hmi_values: str = "level",
) -> Normalization:
    """Compute constants and statistics from merged sketches.

    Parameters
    ----------
    sketches
        Sketch of each channel over all days. A channel without pixels gets no constant.
    method
        A `Method`, or its name.
    resolution
        Pixels along each side of the frames.
    first_day, last_day, days
        First and last day of the sketches (inclusive), and the number of days.
    hmi_values
        Values of HMI frames: ``level`` or ``gauss``.

    Raises
    ------
    NormalizationError
        If the quantile of a channel is zero because most of its pixels are dark.
    SettingError
        If ``method`` is not the name of a method.
    """
    chosen = parse_method(method) if isinstance(method, str) else method
    return Normalization(
        method=str(chosen),
        resolution=resolution,
        first_day=first_day,
        last_day=last_day,
        days=days,
        channels={
            name: _statistics(name, sketches[name], chosen, transform_of(name, hmi_values))
            for name in CHANNELS
            if name in sketches
        },
    )


def _statistics(
    name: str, sketch: Sketch, method: Method, transform: Transform
) -> ChannelStatistics:
    """Compute the statistics of a channel, including the constant that the method determines."""
    fixed = FIXED_CONSTANTS.get(transform)
    if not sketch.pixels:
        return ChannelStatistics(transform=transform, constant=fixed, pixels=0)
    constant = sketch.quantile(method.q) if fixed is None else fixed
    if constant == 0 and sketch.maximum > 0:
        raise NormalizationError(
            f"{name}: the {method.q!r} quantile of the pixels is 0; choose a higher quantile"
        )
    return ChannelStatistics(
        transform=transform,
        constant=constant or None,
        pixels=sketch.pixels,
        minimum=sketch.minimum,
        maximum=sketch.maximum,
        mean=sketch.mean,
        std=sketch.std,
        quantiles={str(q): sketch.quantile(q) for q in LISTED_QUANTILES},
        saturated=sketch.fraction_above(constant),
    )
