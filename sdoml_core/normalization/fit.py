"""Fitting: constants and statistics from merged sketches, never from pixels.

A fit over the whole mission takes seconds.
"""

from collections.abc import Mapping
from datetime import date

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import NormalizationError
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.method import Method, parse_method
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import transform_of

LISTED_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 0.9999)
"""Quantiles that the statistics of each channel list, for people to judge the constant by."""

HMI_CONSTANT = 1.0
"""HMI frames are gray levels in [0, 1]: there is nothing to fit."""


def fit(
    sketches: Mapping[str, Sketch],
    *,
    method: Method | str,
    resolution: int,
    first_day: date,
    last_day: date,
    days: int,
) -> Normalization:
    """Constants and statistics of merged sketches.

    Parameters
    ----------
    sketches
        Each channel's sketch over all days; one without pixels gives a channel without constant.
    method
        A `Method`, or the text of one.
    resolution
        Of the frames, in pixels along an edge.
    first_day, last_day, days
        Which days the sketches hold, both ends included, and how many.

    Raises
    ------
    NormalizationError
        Where the quantile of a channel is zero: most of its pixels are dark.
    SettingError
        For a text that names no method.
    """
    chosen = parse_method(method) if isinstance(method, str) else method
    return Normalization(
        method=str(chosen),
        resolution=resolution,
        first_day=first_day,
        last_day=last_day,
        days=days,
        channels={
            name: _statistics(name, sketches[name], chosen) for name in CHANNELS if name in sketches
        },
    )


def _statistics(name: str, sketch: Sketch, method: Method) -> ChannelStatistics:
    """What a channel's sketch says, with the constant that the method chooses."""
    transform = transform_of(name)
    if not sketch.pixels:
        constant = HMI_CONSTANT if transform == "linear" else None
        return ChannelStatistics(transform=transform, constant=constant, pixels=0)
    constant = HMI_CONSTANT if transform == "linear" else sketch.quantile(method.q)
    if constant == 0 and sketch.maximum > 0:
        raise NormalizationError(
            f"{name}: the quantile {method.q!r} of its pixels is 0; choose a higher one"
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
