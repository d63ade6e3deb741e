"""Light curves: mean brightness and saturation of each channel over time."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.frames.grid import samples_per_pixel
from sdoml_view.release import Release

MAX_POINTS: Final = 2000
"""Maximum number of points in a curve. Longer ranges are averaged."""

MAX_SAMPLED: Final = 64
"""Maximum number of samples that are read if the index has no brightness."""


@dataclass(frozen=True)
class Curve:
    """Brightness of one channel at the given slots."""

    channel: str
    unit: str
    times: NDArray[np.int64]
    """Seconds since 1970."""
    mean: NDArray[np.float64]
    """Mean of all pixels of the frame."""
    saturated: NDArray[np.float64]
    """Fraction of pixels at the upper end of the normalized range."""

    def to_json(self) -> dict[str, Any]:
        """Return the curve for the browser. Unknown values are null."""
        return {
            "channel": self.channel,
            "unit": self.unit,
            "times": self.times.tolist(),
            "mean": [_number(value) for value in self.mean.tolist()],
            "saturated": [_number(value) for value in self.saturated.tolist()],
        }


def unit_of(channel: str) -> str:
    """Return the unit of the mean brightness of a channel."""
    return "DN/s" if channel.startswith("AIA") else "level"


def sampled_rows(rows: range, limit: int = MAX_SAMPLED) -> list[int]:
    """Return at most `limit` rows, evenly spaced."""
    if len(rows) <= limit:
        return list(rows)
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, limit)]


def from_index(release: Release, rows: range, channels: tuple[str, ...]) -> list[Curve] | None:
    """Read the curves from the index. Return None if it has no brightness in the range."""
    times = release.catalog.slots[rows.start : rows.stop].astype("datetime64[s]").astype(np.int64)
    edges = np.unique(np.linspace(0, len(rows), MAX_POINTS + 1).astype(int)[:-1])
    if not len(rows):
        edges = edges[:0]
    curves = []
    for name in channels:
        mean, saturated = release.brightness(name, rows)
        if name.startswith("AIA"):
            mean = mean / samples_per_pixel(release.resolution)
        curves.append(
            Curve(
                channel=name,
                unit=unit_of(name),
                times=times[edges],
                mean=_averages(mean, edges),
                saturated=_averages(saturated, edges),
            )
        )
    return curves if any(np.isfinite(curve.mean).any() for curve in curves) else None


def _averages(values: NDArray[np.float64], edges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average the known values between adjacent edges. NaN if there are no known values."""
    if not len(edges):
        return np.zeros(0)
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(np.int64), edges)
    sums = np.add.reduceat(np.where(known, values, 0.0), edges)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def measure(
    release: Release, row: int, channels: tuple[str, ...]
) -> dict[str, tuple[float, float]]:
    """Measure the mean and the saturated fraction of the pixels of a sample, by channel."""
    measured = {}
    for name, pixels in release.frames(row, channels).items():
        aia = name.startswith("AIA")
        physical = release.physical(name, pixels) if aia else None
        values = pixels if physical is None else physical
        measured[name] = float(values.mean(dtype=np.float64)), float((pixels >= 1).mean())
    return measured


def from_pixels(release: Release, rows: range, channels: tuple[str, ...]) -> list[Curve]:
    """Read and measure a few samples of a range."""
    chosen = sampled_rows(rows)
    times = release.catalog.slots[chosen].astype("datetime64[s]").astype(np.int64)
    values = np.full((len(channels), 2, len(chosen)), np.nan)
    for at, row in enumerate(chosen):
        for name, pair in measure(release, row, channels).items():
            values[channels.index(name), :, at] = pair
    return [
        Curve(name, unit_of(name), times, values[i, 0], values[i, 1])
        for i, name in enumerate(channels)
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.6g}")
