"""Where the solar disk lies in a processed frame: centre and radius, measured from the pixels.

An independent look at the geometry, after all processing: the limb is where brightness falls
most steeply along rays from the middle of the frame, and a circle is fitted through the falls.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdoml_core.frames.grid import DISK_RADIUS

RAYS = 360
NEAR, FAR = 0.85, 1.15
"""The limb is looked for between these fractions of the expected radius."""

_STEPS_PER_PIXEL = 4
_FEWEST_RAYS = RAYS // 4


@dataclass(frozen=True, slots=True)
class Disk:
    """A measured disk, in pixels of the frame."""

    x: float
    """Of its centre, to the right from that of the frame."""

    y: float
    """Of its centre, down from that of the frame."""

    radius: float

    scatter: float
    """Standard deviation of the limb's points about the circle."""

    rays: int
    """Rays that the circle goes by."""

    @property
    def offset(self) -> float:
        """Distance of its centre from that of the frame."""
        return float(np.hypot(self.x, self.y))


def measure_disk(frame: NDArray[np.float32], *, finest: int = 1024) -> Disk | None:
    """Centre and radius of the disk.

    Parameters
    ----------
    frame
        Shape (n, n), any unit, finite, with the Sun roughly in the middle.
    finest
        A finer frame is averaged down to this many pixels. Photosphere and chromosphere (1600 Å,
        1700 Å, magnetograms) need none of it and give the radius to 0.5 %. The corona has no
        edge: at 128 pixels its loops merge, and brightness falls 3 % to 6 % above the limb.

    Returns
    -------
    None where no circle goes through the limb: a frame without a disk.
    """
    step = max(frame.shape[0] // finest, 1)
    disk = _measure(_reduced(frame, step))
    if disk is None or step == 1:
        return disk
    return Disk(
        disk.x * step, disk.y * step, disk.radius * step, disk.scatter * step, rays=disk.rays
    )


def _reduced(frame: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    """Means of blocks of ``step`` × ``step`` pixels."""
    side = frame.shape[0] // step
    return np.asarray(frame.reshape(side, step, side, step).mean((1, 3), dtype=np.float64))


def _measure(frame: NDArray[np.float64]) -> Disk | None:
    side = frame.shape[0]
    expected = DISK_RADIUS * side
    angles = np.arange(RAYS) * (2 * np.pi / RAYS)
    radii = np.arange(NEAR * expected, FAR * expected, 1 / _STEPS_PER_PIXEL)
    middle = (side - 1) / 2
    profiles = _bilinear(
        frame,
        middle + np.outer(np.cos(angles), radii),
        middle + np.outer(np.sin(angles), radii),
    )
    # The fall is between the mean of one pixel inside and that of one outside.
    summed = np.cumsum(np.pad(profiles, ((0, 0), (1, 0))), axis=1)
    width = _STEPS_PER_PIXEL
    means = (summed[:, width:] - summed[:, :-width]) / width
    falls = means[:, :-width] - means[:, width:]
    steepest = falls.argmax(axis=1)
    depth = falls[np.arange(RAYS), steepest]
    limb = radii[0] + (_peak(falls, steepest) + width - 0.5) / _STEPS_PER_PIXEL
    clear = depth > max(0.1 * float(np.median(depth)), 0)
    x, y = limb * np.cos(angles), limb * np.sin(angles)
    return _circle(x, y, clear)


def _bilinear(
    frame: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Values between pixels."""
    column, row = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    right, down = x - column, y - row
    upper = frame[row, column] * (1 - right) + frame[row, column + 1] * right
    lower = frame[row + 1, column] * (1 - right) + frame[row + 1, column + 1] * right
    return upper * (1 - down) + lower * down


def _peak(falls: NDArray[np.float64], at: NDArray[np.intp]) -> NDArray[np.float64]:
    """Place of each row's maximum to a fraction of a step, by a parabola through three values."""
    rows, inner = np.arange(len(falls)), np.clip(at, 1, falls.shape[1] - 2)
    left, top, right = (falls[rows, inner + step] for step in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = np.divide(0.5 * (left - right), bend, out=np.zeros_like(bend), where=bend < 0)
    return np.asarray(inner + np.clip(shift, -1, 1), np.float64)


def _circle(x: NDArray[np.float64], y: NDArray[np.float64], use: NDArray[np.bool_]) -> Disk | None:
    """Algebraic least-squares circle (Kåsa 1976), without points that lie far off it."""
    while use.sum() >= _FEWEST_RAYS:
        matrix = np.column_stack([x[use], y[use], np.ones(use.sum())])
        solution, *_ = np.linalg.lstsq(matrix, x[use] ** 2 + y[use] ** 2, rcond=None)
        a, b, c = (float(value) for value in solution)
        a, b = a / 2, b / 2
        radius = float(np.sqrt(c + a * a + b * b))
        residuals = np.hypot(x - a, y - b) - radius
        spread = 1.4826 * float(np.median(np.abs(residuals[use])))
        kept = np.abs(residuals) <= max(3 * spread, 0.05)
        kept &= use
        if kept.sum() == use.sum():
            return Disk(a, b, radius, float(residuals[use].std()), int(use.sum()))
        use = kept  # with fewer rays each time, so that this ends
    return None
