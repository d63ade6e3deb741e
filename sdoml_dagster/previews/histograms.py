"""Histograms: what each channel's pixels are like over the whole fit, and where 1 is."""

from collections.abc import Mapping
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.colormaps import colormap
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.transform import Transform
from sdoml_dagster.previews.canvas import (
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Canvas,
    shortened,
)
from sdoml_dagster.previews.contact_sheet import channel_label

if TYPE_CHECKING:
    from sdoml_core.normalization.sketch import Sketch  # brings numba

_WIDTH, _HEIGHT = 420, 268  # of a channel, with its title and axes
_MARGIN, _GAP, _HEADER = 28, 20, 66
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 34, 44  # from a channel's edges to its plot
_CELLS = 96
_DARKEST = 1e-3  # fraction of the pixels above zero that may lie left of the axis


def histograms(
    normalization: Normalization, sketches: Mapping[str, "Sketch"], *, columns: int = 2
) -> Image.Image:
    """Pixels of each channel over their value, both logarithmic, with the constant marked.

    Parameters
    ----------
    normalization
        What was fitted.
    sketches
        The merged sketches that it was fitted to. HMI, in [0, 1], has a linear axis of values.
    """
    names = [name for name in normalization.channels if name in sketches]
    columns = max(min(columns, len(names)), 1)
    rows = max(-(-len(names) // columns), 1)
    width = 2 * _MARGIN + columns * (_WIDTH + _GAP) - _GAP
    canvas = Canvas(width, _HEADER + rows * (_HEIGHT + _GAP) - _GAP + _MARGIN)
    canvas.text((_MARGIN, 42), f"Normalisation {normalization.version}", 20)
    days = f"{normalization.days:,} day{'s' * (normalization.days != 1)}"
    facts = (
        f"{normalization.method} · {days}, {normalization.first_day} to "
        f"{normalization.last_day} · {normalization.resolution} px"
    )
    facts = shortened(facts, 12, width - 2 * _MARGIN - 330)
    canvas.text((width - _MARGIN, 42), facts, 12, MUTED, anchor="rs")
    for number, name in enumerate(names):
        left = _MARGIN + number % columns * (_WIDTH + _GAP)
        top = _HEADER + number // columns * (_HEIGHT + _GAP)
        _draw_channel(canvas, (left, top), name, sketches[name], normalization.channels[name])
    return canvas.finished()


def _draw_channel(
    canvas: Canvas,
    origin: tuple[float, float],
    name: str,
    sketch: "Sketch",
    statistics: ChannelStatistics,
) -> None:
    """One channel's title, axes, filled histogram and constant."""
    left, top = origin[0] + _LEFT, origin[1] + _TOP
    right, bottom = origin[0] + _WIDTH - _RIGHT, origin[1] + _HEIGHT - _BOTTOM
    canvas.text((left, top - 12), channel_label(name), 15)
    canvas.rectangle((left, top, right, bottom), PANEL)
    constant = statistics.constant
    if constant is None or not sketch.maximum > 0:
        middle = ((left + right) / 2, (top + bottom) / 2)
        canvas.text(middle, "no pixels in these days", 13, MUTED, anchor="mm")
        return
    facts = _facts(sketch, statistics.transform, constant)
    canvas.text((right, top - 12), facts, 11, MUTED, anchor="rs")
    logarithmic = statistics.transform == "sqrt"
    edges, counts = _cells(sketch, logarithmic=logarithmic)
    decades = max(ceil(log10(float(counts.max()) + 1)), 1)

    low, high = float(edges[0]), float(edges[-1])

    def x_of(value: float) -> float:
        place = log10(value) if logarithmic else value
        return left + (right - left) * (place - low) / (high - low)

    def y_of(count: float) -> float:  # the axis begins at half a pixel: one must be visible
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
    axis = "processed pixel value (sum of DN/s)" if logarithmic else "grey level (0.5 is 0 gauss)"
    canvas.text(((left + right) / 2, bottom + 36), axis, 11, MUTED, anchor="ms")
    canvas.text((left - 7, top - 12), "pixels", 11, MUTED, anchor="rs")

    colours = colormap(name)
    red, green, blue = (int(part) for part in colours[170])
    xs = left + (right - left) * (edges - low) / (high - low)
    for start, end, count in zip(xs[:-1], xs[1:], counts, strict=True):
        if count:
            # Half a pixel of overlap: no seams between the cells.
            box = (float(start), y_of(float(count)), min(float(end) + 0.5, right), bottom)
            canvas.rectangle(box, (red, green, blue))
    _mark_constant(canvas, min(x_of(constant), right - 1), top, bottom)
    canvas.line([(left, bottom), (right, bottom)], MUTED)


def _mark_constant(canvas: Canvas, x: float, top: float, bottom: float) -> None:
    """A dashed line from top to bottom, marked c."""
    for y in np.arange(top + 20, bottom, 7).tolist():
        canvas.line([(x, y), (x, min(y + 4, bottom))], TEXT, 1.5)
    canvas.text((x, top + 15), "c", 13, anchor="ms")


def _facts(sketch: "Sketch", transform: Transform, constant: float) -> str:
    """The constant, where a median pixel lands, and how many are saturated."""
    saturated = f"saturated {sketch.fraction_above(constant) * 100:.2g} %"
    if transform == "linear":
        return f"exactly 0 (off the disk) {sketch.zeros / sketch.pixels * 100:.0f} % · {saturated}"
    median = (sketch.quantile(0.5) / constant) ** 0.5
    return f"c = {_number(constant)} · median becomes {median:.2f} · {saturated}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _cells(
    sketch: "Sketch", *, logarithmic: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cells of equal width on the axis: their edges (log10 or value) and how many pixels."""
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
    """Where the axis of values is labelled: powers of ten, or quarters."""
    if not logarithmic:
        return [0, 0.25, 0.5, 0.75, 1]
    decades = range(ceil(low), floor(high) + 1)
    return [float(decade) for decade in decades][:: max(len(decades) // 7, 1)]
