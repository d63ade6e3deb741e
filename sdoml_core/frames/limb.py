"""Measure the center and radius of the solar disk from the pixels of a frame.

This is an independent check of the geometry. The limb is where brightness drops most steeply along
rays from the expected center. A circle is fitted to these points.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sdoml_core.frames.grid import DISK_RADIUS

RAYS = 360
NEAR, FAR = 0.85, 1.15
"""The limb is searched for between these fractions of the expected radius."""

_STEPS_PER_PIXEL = 4
_FEWEST_RAYS = RAYS // 4
_ANGLES = np.arange(RAYS) * (2 * np.pi / RAYS)
_COSINES, _SINES = np.cos(_ANGLES), np.sin(_ANGLES)


@dataclass(frozen=True, slots=True)
class Disk:
    """A measured disk, in pixels of the frame."""

    x: float
    """Offset of the measured center from the expected center, in columns."""

    y: float
    """Offset of the measured center from the expected center, in rows."""

    radius: float

    scatter: float
    """Standard deviation of the distances between the limb points and the circle."""

    rays: int
    """Number of limb points to which the circle was fitted."""

    @property
    def offset(self) -> float:
        """Distance between the expected and the measured center."""
        return float(np.hypot(self.x, self.y))


def measure_disk(
    frame: NDArray[np.floating],
    *,
    finest: int = 1024,
    center: tuple[float, float] | None = None,
    radius: float | None = None,
) -> Disk | None:
    """Measure the center and the radius of the disk.

    Parameters
    ----------
    frame
        Shape (n, n), in any unit. NaN for pixels without data.
    finest
        Frames with more pixels per side are averaged down to this size. The photosphere and the
        chromosphere (1600 Å, 1700 Å, magnetograms) need no averaging and give the radius to within
        0.5%. The corona has no sharp edge. At 128 pixels, its loops merge, and the steepest drop in
        brightness is 2.5% to 6% above the limb.
    center
        Expected center (column, row), 0-based; the middle of the frame by default.
    radius
        Expected radius in pixels. Defaults to the radius in processed frames.

    Returns
    -------
    The disk, or None if no circle fits the limb, for example in a frame without a disk.
    """
    side = frame.shape[0]
    step = max(side // finest, 1)
    x, y = ((side - 1) / 2,) * 2 if center is None else center
    disk = _measure(
        reduce_blocks(frame, step),
        (x + 0.5) / step - 0.5,
        (y + 0.5) / step - 0.5,
        (DISK_RADIUS * side if radius is None else radius) / step,
    )
    if disk is None or step == 1:
        return disk
    return Disk(
        disk.x * step, disk.y * step, disk.radius * step, disk.scatter * step, rays=disk.rays
    )


def reduce_blocks(frame: NDArray[np.floating], step: int) -> NDArray[np.float64]:
    """Average blocks of ``step`` × ``step`` pixels, ignoring NaN. Blocks without data are NaN."""
    if step == 1:
        return np.asarray(frame, np.float64)
    means = np.empty((frame.shape[0] // step, frame.shape[1] // step))
    _reduce(frame, step, means)
    if np.isnan(means).any():
        _reduce_known(frame, step, means)
    return means


def _measure(frame: NDArray[np.float64], x: float, y: float, expected: float) -> Disk | None:
    limb, depth = np.empty(RAYS), np.empty(RAYS)
    bounds = (NEAR * expected, FAR * expected)
    _search_limb(frame, (x, y), bounds, (_COSINES, _SINES), (limb, depth))
    seen = depth > 0
    if not seen.any():
        return None
    clear = seen & (depth > 0.1 * float(np.median(depth[np.isfinite(depth)])))
    return _circle(limb * _COSINES, limb * _SINES, clear)


@njit(nogil=True, cache=True, error_model="numpy")
def _reduce(frame: Any, step: int, means: Any) -> None:
    """Compute block means. Blocks with a NaN are NaN."""
    rows, columns = means.shape
    # For a few rows, the sum is precise enough in the dtype of the frame, and it is twice as fast.
    total = np.empty_like(frame[0])
    for p in range(rows):
        total[:] = frame[p * step]
        for r in range(p * step + 1, (p + 1) * step):
            row = frame[r]
            for c in range(total.size):
                total[c] += row[c]
        for q in range(columns):
            amount = 0.0
            for c in range(q * step, (q + 1) * step):
                amount += total[c]
            means[p, q] = amount / (step * step)


@njit(nogil=True, cache=True, error_model="numpy")
def _reduce_known(frame: Any, step: int, means: Any) -> None:
    """Compute block means that ignore NaN. This is a third slower than `_reduce`."""
    rows, columns = means.shape
    total = np.empty(columns)
    count = np.empty(columns, np.int64)
    for p in range(rows):
        total[:] = 0.0
        count[:] = 0
        for r in range(p * step, (p + 1) * step):
            row = frame[r]
            for q in range(columns):
                for c in range(q * step, (q + 1) * step):
                    if not np.isnan(row[c]):
                        total[q] += row[c]
                        count[q] += 1
        for q in range(columns):
            means[p, q] = total[q] / count[q] if count[q] else np.nan


@njit(nogil=True, cache=True, error_model="numpy")
def _search_limb(
    frame: Any,
    center: tuple[float, float],
    bounds: tuple[float, float],
    directions: Any,
    found: Any,
) -> None:
    """Find the distance and the depth of the steepest drop in brightness along each ray.

    The drop at a step is the difference between the mean over one pixel inside and the mean over
    one pixel outside. NaN is skipped. The depth of a ray without a drop is -inf.
    """
    cosines, sines = directions
    limb, depth = found
    side = frame.shape[0]
    width = _STEPS_PER_PIXEL
    steps = int(np.ceil((bounds[1] - bounds[0]) * width))
    profile = np.empty(steps)
    falls = np.empty(steps - 2 * width + 1)
    one, last = np.uint64(1), np.uint64(side - 2)  # unsigned, so that an index is never negative
    for ray in range(cosines.size):
        for n in range(steps):
            distance = bounds[0] + n / width
            x = min(max(center[0] + cosines[ray] * distance, 0.0), side - 1.0)
            y = min(max(center[1] + sines[ray] * distance, 0.0), side - 1.0)
            i, j = min(np.uint64(x), last), min(np.uint64(y), last)
            f, g = x - i, y - j
            upper = frame[j, i] * (1.0 - f) + frame[j, i + one] * f
            lower = frame[j + one, i] * (1.0 - f) + frame[j + one, i + one] * f
            profile[n] = upper * (1.0 - g) + lower * g
        for n in range(falls.size):  # the compiler vectorizes this loop, but not the next
            inside = outside = 0.0
            for k in range(_STEPS_PER_PIXEL):
                inside += profile[n + k]
                outside += profile[n + width + k]
            falls[n] = (inside - outside) / width
        steepest = -1
        best = -np.inf
        for n in range(falls.size):
            if falls[n] > best:
                best, steepest = falls[n], n
        depth[ray] = best
        inner = min(max(steepest, 1), falls.size - 2)
        left, top, right = falls[inner - 1], falls[inner], falls[inner + 1]
        bend = left - 2 * top + right
        peak = inner + (min(max(0.5 * (left - right) / bend, -1.0), 1.0) if bend < 0 else 0.0)
        limb[ray] = bounds[0] + (peak + width - 0.5) / width


def _circle(x: NDArray[np.float64], y: NDArray[np.float64], use: NDArray[np.bool_]) -> Disk | None:
    """Fit an algebraic least-squares circle (Kåsa 1976), ignoring outliers."""
    while use.sum() >= _FEWEST_RAYS:
        matrix = np.column_stack([x[use], y[use], np.ones(use.sum())])
        # Points in so many directions cannot be collinear, so the normal equations are solvable.
        solution = np.linalg.solve(matrix.T @ matrix, matrix.T @ (x[use] ** 2 + y[use] ** 2))
        a, b, c = (float(value) for value in solution)
        a, b = a / 2, b / 2
        radius = float(np.sqrt(c + a * a + b * b))
        residuals = np.hypot(x - a, y - b) - radius
        spread = 1.4826 * float(np.median(np.abs(residuals[use])))
        kept = np.abs(residuals) <= max(3 * spread, 0.05)
        kept &= use
        if kept.sum() == use.sum():
            return Disk(a, b, radius, float(residuals[use].std()), int(use.sum()))
        use = kept  # each round has fewer rays, so the loop ends
    return None
