"""Histograms of the pixels to which a normalization was fitted, one per channel."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.colormaps import colormap
from sdoml_core.frames.magnetogram import FIELD_RANGE
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.transform import Transform
from sdoml_dagster.previews.canvas import (
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Canvas,
    shorten,
)
from sdoml_dagster.previews.contact_sheet import channel_label

if TYPE_CHECKING:
    from sdoml_core.normalization.sketch import Sketch  # slow to import, because of numba

_WIDTH, _HEIGHT = 420, 268  # per channel, with title and axes
_MARGIN, _GAP, _HEADER = 28, 20, 66
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 34, 44  # margins between the edges of a channel and its plot
_CELLS = 96
_AXES: Mapping[Transform, str] = {
    "sqrt": "processed pixel value (sum of DN/s)",
    "linear": "gray level (0.5 is 0 gauss)",
    "field": f"1/2 + B / {2 * FIELD_RANGE:.0f} G",
}
_DARKEST = 1e-3  # fraction of nonzero pixels that may be to the left of the axis


def histograms(
    normalization: Normalization, sketches: Mapping[str, "Sketch"], *, columns: int = 2
) -> Image.Image:
    """Draw each channel's pixel counts by value on logarithmic axes, and mark the constant.

    Parameters
    ----------
    normalization
        The fitted constants.
    sketches
        The merged sketches of the fit. HMI values, in [0, 1], have a linear axis.
    """
    names = [name for name in normalization.channels if name in sketches]
    columns = max(min(columns, len(names)), 1)
    rows = max(-(-len(names) // columns), 1)
    width = 2 * _MARGIN + columns * (_WIDTH + _GAP) - _GAP
    canvas = Canvas(width, _HEADER + rows * (_HEIGHT + _GAP) - _GAP + _MARGIN)
    canvas.text((_MARGIN, 42), f"Normalization {normalization.version}", 20)
    days = f"{normalization.days:,} day{'s' * (normalization.days != 1)}"
    summary = (
        f"{normalization.method} · {days}, {normalization.first_day} to "
        f"{normalization.last_day} · {normalization.resolution} px"
    )
    summary = shorten(summary, 12, width - 2 * _MARGIN - 330)
    canvas.text((width - _MARGIN, 42), summary, 12, MUTED, anchor="rs")
    for number, name in enumerate(names):
        left = _MARGIN + number % columns * (_WIDTH + _GAP)
        top = _HEADER + number // columns * (_HEIGHT + _GAP)
        _draw_channel(canvas, (left, top), name, sketches[name], normalization.channels[name])
    return canvas.render()


def _draw_channel(
    canvas: Canvas,
    origin: tuple[float, float],
    name: str,
    sketch: "Sketch",
    statistics: ChannelStatistics,
) -> None:
    """Draw the title, axes, filled histogram and constant of one channel."""
    left, top = origin[0] + _LEFT, origin[1] + _TOP
    right, bottom = origin[0] + _WIDTH - _RIGHT, origin[1] + _HEIGHT - _BOTTOM
    canvas.text((left, top - 12), channel_label(name), 15)
    canvas.rectangle((left, top, right, bottom), PANEL)
    constant = statistics.constant
    if constant is None or not sketch.maximum > 0:
        middle = ((left + right) / 2, (top + bottom) / 2)
        canvas.text(middle, "no pixels on these days", 13, MUTED, anchor="mm")
        return
    summary = _summary(sketch, statistics.transform, constant)
    canvas.text((right, top - 12), summary, 11, MUTED, anchor="rs")
    logarithmic = statistics.transform == "sqrt"
    edges, counts = _cells(sketch, logarithmic=logarithmic)
    decades = max(ceil(log10(float(counts.max()) + 1)), 1)

    low, high = float(edges[0]), float(edges[-1])

    def x_of(value: float) -> float:
        position = log10(value) if logarithmic else value
        return left + (right - left) * (position - low) / (high - low)

    def y_of(
        count: float,
    ) -> float:  # the axis starts at half a pixel, so that one pixel is visible
        return bottom - (bottom - top - 18) * log10(2 * count) / log10(2 * 10**decades)

    for exponent in range(0, decades + 1, max(decades // 4, 1)):
        y = y_of(10**exponent)
        canvas.line([(left, y), (right, y)], LINE)
        canvas.power_of_ten((left - 7, y), exponent, 11, anchor="rm")
    ticks = _ticks(low, high, logarithmic=logarithmic)
    for tick in ticks:
        x = x_of(10**tick if logarithmic else tick)
        canvas.line([(x, bottom), (x, bottom + 4)], MUTED)
        if logarithmic:
            canvas.power_of_ten((x, bottom + 7), round(tick), 11, anchor="mt")
        else:
            canvas.text((x, bottom + 18), f"{tick:g}", 11, MUTED, anchor="ms")
    axis = _AXES[statistics.transform]
    canvas.text(((left + right) / 2, bottom + 36), axis, 11, MUTED, anchor="ms")
    canvas.text((left - 7, top - 12), "pixels", 11, MUTED, anchor="rs")

    colors = colormap(name)
    red, green, blue = (int(part) for part in colors[170])
    xs = left + (right - left) * (edges - low) / (high - low)
    for start, end, count in zip(xs[:-1], xs[1:], counts, strict=True):
        if count:
            # Half a pixel of overlap avoids seams between the cells.
            box = (float(start), y_of(float(count)), min(float(end) + 0.5, right), bottom)
            canvas.rectangle(box, (red, green, blue))
    if statistics.transform != "field":
        _mark_constant(canvas, min(x_of(constant), right - 1), top, bottom)
    canvas.line([(left, bottom), (right, bottom)], MUTED)


def _mark_constant(canvas: Canvas, x: float, top: float, bottom: float) -> None:
    """Draw a dashed vertical line labeled c."""
    for y in np.arange(top + 20, bottom, 7).tolist():
        canvas.line([(x, y), (x, min(y + 4, bottom))], TEXT, 1.5)
    canvas.text((x, top + 15), "c", 13, anchor="ms")


def _summary(sketch: "Sketch", transform: Transform, constant: float) -> str:
    """Describe the constant, the normalized median and the saturated fraction."""
    saturated = f"saturated {sketch.fraction_above(constant) * 100:.2g}%"
    if transform != "sqrt":
        return f"exactly 0 (off the disk) {sketch.zeros / sketch.pixels * 100:.0f}% · {saturated}"
    median = (sketch.quantile(0.5) / constant) ** 0.5
    return f"c = {_number(constant)} · median becomes {median:.2f} · {saturated}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _cells(
    sketch: "Sketch", *, logarithmic: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the edges (log10 of the value, or the value) and pixel counts of equal-width cells."""
    patterns = sketch.bins.astype(np.uint32) << 16
    values = (patterns | 0x8000).view(np.float32).astype(np.float64)
    if logarithmic:
        dark = (sketch.zeros + _DARKEST * (sketch.pixels - sketch.zeros)) / sketch.pixels
        low = log10(max(sketch.quantile(dark), float(values[0])))
        high = max(log10(sketch.maximum), low + 0.1)
        edges = np.linspace(low, high + (high - low) * 0.02, _CELLS + 1)
        values = np.log10(values)
    else:
        edges = np.linspace(0, max(1.0, sketch.maximum), _CELLS + 1)
    counts, _ = np.histogram(values, edges, weights=sketch.counts)
    return edges, counts


def _ticks(low: float, high: float, *, logarithmic: bool) -> list[float]:
    """Return the tick positions on the value axis: powers of ten, or quarters."""
    if not logarithmic:
        return [0, 0.25, 0.5, 0.75, 1]
    decades = range(ceil(low), floor(high) + 1)
    return [float(decade) for decade in decades][:: max(len(decades) // 7, 1)]
