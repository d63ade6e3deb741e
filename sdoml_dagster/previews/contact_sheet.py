"""Contact sheet: the channels of one sample side by side, each with its colormap."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.channels import CHANNELS
from sdoml_core.colormaps import apply_colormap
from sdoml_core.frames.grid import DISK_RADIUS
from sdoml_dagster.previews.canvas import (
    LINE,
    MUTED,
    PANEL,
    TEXT,
    Canvas,
    shorten,
    text_width,
    wrap_text,
)

BLACK_PERCENTILE, WHITE_PERCENTILE = 1.0, 99.8
"""Percentiles drawn as black and white, so that flares and hot pixels do not darken the disk."""

SOFTENING_EUV, SOFTENING_UV = 0.04, 0.5
"""Brightness is linear up to this fraction of white, and logarithmic above it. The brightness of
the corona spans decades, but that of the ultraviolet continuum does not."""

INLINE_TILE = 128
"""Side of a tile in inline sheets, in pixels. Larger tiles would not stay sharp in 20 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One channel of the sheet."""

    channel: str
    """Name as in ``CHANNELS``. Selects the colormap."""

    image: NDArray[np.floating[Any]] | None
    """Image of shape (n, n), north up. None if the channel is missing."""

    observed: datetime | None = None
    """Observation time of the frame, UTC."""

    reason: str = ""
    """Reason why the channel is missing."""


def contact_sheet(
    panels: Sequence[Panel],
    *,
    title: str,
    subtitle: str = "",
    tile: int = 384,
    columns: int = 4,
    normalized: bool = False,
) -> Image.Image:
    """Draw a grid of channels with their names and times.

    Parameters
    ----------
    panels
        Channels in the order of the grid, row by row.
    title, subtitle
        Text above the grid, left and right.
    tile
        Side of a channel's tile in pixels. All other sizes are proportional to it.
    normalized
        Whether AIA images are normalized (square roots). If not, they are in the units of processed
        frames. Both give the same picture, except for saturated pixels.
    """
    columns = max(min(columns, len(panels)), 1)
    rows = -(-len(panels) // columns)
    margin, gap, size = max(tile // 16, 12), max(tile // 28, 12), max(tile // 20, 10)
    caption, header = round(size * 2.1), round(size * 2.7)
    width = 2 * margin + columns * (tile + gap) - gap
    height = margin + header + rows * (tile + caption + gap) - gap + margin // 2
    canvas = Canvas(width, height)
    _header(canvas, title, subtitle, size, margin=margin, width=width)
    corners = [
        (
            margin + number % columns * (tile + gap),
            margin + header + number // columns * (tile + caption + gap),
        )
        for number in range(len(panels))
    ]
    for panel, (left, top) in zip(panels, corners, strict=True):
        _caption(canvas, panel, size, left=left, baseline=top + tile + size * 1.35, tile=tile)
        if panel.image is None:
            _missing(canvas, panel.reason, size, left=left, top=top, tile=tile)
    sheet = canvas.render()
    for panel, corner in zip(panels, corners, strict=True):
        if panel.image is not None:
            sheet.paste(_picture(panel, tile, normalized=normalized), corner)
    return sheet


def channel_label(channel: str) -> str:
    """Return the display name of a channel: ``AIA 193``, ``HMI magnetogram``."""
    known = CHANNELS[channel]
    return f"AIA {known.wavelength}" if known.instrument == "AIA" else "HMI magnetogram"


def _header(
    canvas: Canvas, title: str, subtitle: str, size: int, *, margin: int, width: int
) -> None:
    large, small = round(size * 1.4), round(size * 0.9)
    baseline, room = margin + size * 1.3, width - 2 * margin
    title = shorten(title, large, room)
    canvas.text((margin, baseline), title, large)
    rest = room - text_width(title, large) - size
    if subtitle and rest > 4 * size:
        subtitle = shorten(subtitle, small, rest)
        canvas.text((width - margin, baseline), subtitle, small, MUTED, anchor="rs")


def _caption(
    canvas: Canvas, panel: Panel, size: int, *, left: int, baseline: float, tile: int
) -> None:
    """Draw the channel and the observation time below the tile."""
    label = channel_label(panel.channel)
    time = f"{panel.observed:%H:%M:%S}" if panel.observed is not None else ""
    small = max(round(size * 0.8), 9)
    if text_width(label, size) + text_width(time, small) + size > tile:
        label = label.partition(" magnetogram")[0]
    color = MUTED if panel.image is None else TEXT
    canvas.text((left, baseline), label, size, color)
    canvas.text((left + tile, baseline), time, small, MUTED, anchor="rs")


def _picture(panel: Panel, tile: int, *, normalized: bool) -> Image.Image:
    """Render an image at tile × tile pixels, stretched so that the quiet disk is visible."""
    values = np.nan_to_num(np.asarray(panel.image, np.float32))
    channel = CHANNELS[panel.channel]
    if channel.instrument == "AIA":
        if normalized:
            values = np.square(values)
        black, white = np.percentile(values, [BLACK_PERCENTILE, WHITE_PERCENTILE]).tolist()
        softening = SOFTENING_UV if channel.wavelength >= 1600 else SOFTENING_EUV
        values = np.clip((values - black) / ((white - black) or 1.0), 0, 1)
        values = np.arcsinh(values / softening) / np.arcsinh(1 / softening)
    # Resample values, not colors, because averaged colors are not in the colormap.
    fitted = Image.fromarray(values.astype(np.float32)).resize((tile, tile))
    return Image.fromarray(apply_colormap(panel.channel, np.asarray(fitted)))


def _missing(canvas: Canvas, reason: str, size: int, *, left: int, top: int, tile: int) -> None:
    """Draw an empty tile with the Sun's outline and the reason why the channel is missing."""
    canvas.rectangle((left, top, left + tile, top + tile), PANEL, LINE)
    x, y, radius = left + tile / 2, top + tile / 2, tile * DISK_RADIUS
    canvas.circle((x, y), radius, LINE)
    small = max(round(size * 0.85), 9)
    lines = wrap_text(reason, small, radius * 1.6)[:4]
    y -= size * 0.7 * len(lines)
    canvas.text((x, y), "missing", size, MUTED, anchor="mm")
    for line in lines:
        y += size * 1.4
        line_fitted = shorten(line, small, radius * 1.8)
        canvas.text((x, y), line_fitted, small, MUTED, anchor="mm")
