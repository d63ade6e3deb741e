"""Convert gray levels to the magnetic field, and compute block means over the disk.

The gray levels of a magnetogram are not linear in the field, and pixels off the disk are black.
Each pixel is therefore converted first, and pixels off the disk have no weight. Averaging the
levels instead would give strong negative fields at the limb, where gray and black are mixed.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sdoml_core.frames.resample import block_taps, pack_rows


def mean_field_blocks(
    rgb: NDArray[np.uint8],
    *,
    resolution: int,
    scale: float,
    label: tuple[int, int],
    table: NDArray[np.float64],
    disk: tuple[float, float, float],
    least: float,
) -> NDArray[np.float32]:
    """Convert gray levels to values, warp them, and compute block means.

    Parameters
    ----------
    rgb
        uint8 (N, N, 3).
    resolution
        n, a divisor of N.
    scale
        s, above 0. Values above 1 magnify.
    label
        First row and last column (exclusive) of the label. Its pixels have no values.
    table
        float64 (766,): value of each sum of red, green and blue; NaN if the sum has no value.
    disk
        Column and row of the center, and the radius, in pixels. Pixels outside the disk have no
        values.
    least
        Fraction of a block that must have values, above 0.

    Returns
    -------
    float32 (n, n), not flipped. A block is 0 if a smaller fraction of it has values.
    """
    first, weights = block_taps(rgb.shape[0], resolution, scale)
    out = np.empty((resolution, resolution), np.float32)
    _mean_field(pack_rows(rgb), (first, weights), (label, disk, least), table, out)
    return out


@njit(nogil=True, cache=True, error_model="numpy")
def _read_row(row: Any, table: Any, span: tuple[int, int], into: Any) -> None:
    """Convert a row within a range of columns. Write the values, and 1 for pixels with a value."""
    into[:] = 0.0
    gray = row.size == into.shape[1]
    for c in range(span[0], span[1]):
        if gray:
            total = 3 * np.int64(row[c])
        else:
            total = np.int64(row[3 * c]) + np.int64(row[3 * c + 1]) + np.int64(row[3 * c + 2])
        value = table[total]
        if not np.isnan(value):
            into[0, c] = value
            into[1, c] = 1.0


@njit(nogil=True, cache=True, error_model="numpy")
def _mean_field(
    packed: Any,
    taps: Any,
    limits: tuple[tuple[int, int], tuple[float, float, float], float],
    table: Any,
    out: Any,
) -> None:
    """Average down columns, then along rows. A ring buffer keeps the rows that blocks share."""
    first, weights = taps
    label, disk, least = limits
    size = packed.shape[0]
    count, resolution = weights.shape
    x, y, radius = disk
    ring = np.empty((count, 2, size))
    held = np.full(count, -1)
    line = np.empty((2, size))
    total = np.empty((2, resolution))
    for p in range(resolution):
        line[:] = 0.0
        for t in range(count):
            share = weights[t, p]
            if share == 0.0:
                continue
            row = first[p] + t
            known = ring[row % count]
            if held[row % count] != row:
                held[row % count] = row
                chord = radius * radius - (row - y) * (row - y)
                half = np.sqrt(chord) if chord > 0.0 else -1.0
                left, right = max(int(np.ceil(x - half)), 0), min(int(x + half) + 1, size)
                if row >= label[0]:
                    left = max(left, label[1])
                _read_row(packed[row], table, (left, right), known)
            for c in range(size):
                line[0, c] += share * known[0, c]
                line[1, c] += share * known[1, c]
        total[:] = 0.0
        for t in range(count):
            for q in range(resolution):
                total[0, q] += weights[t, q] * line[0, first[q] + t]
                total[1, q] += weights[t, q] * line[1, first[q] + t]
        for q in range(resolution):
            out[p, q] = total[0, q] / total[1, q] if total[1, q] >= least else 0.0
