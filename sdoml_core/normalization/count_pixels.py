"""The kernel that counts the pixels of a frame for its sketch.

A module of its own, because numba takes longer to import, and more memory, than a fit over the
whole mission, which merges sketches without ever counting a pixel.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def count(
    bits: NDArray[np.uint32], values: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[int, int, np.uint32, np.uint32, float, float]:
    """Count pixels by the upper 16 bits of their pattern.

    Parameters
    ----------
    bits, values
        The same pixels, as patterns and as float32; one dimension.
    counts
        Of each upper half; added to.

    Returns
    -------
    tuple
        Pixels that are negative, infinite or NaN (and not counted), pixels that are zero, lowest
        and highest pattern, sum and sum of squares in float64. The sums follow the order of the
        pixels, so they are the same on every machine.
    """
    bad = zeros = 0
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    total = squares = 0.0
    for i in range(bits.size):
        pattern = bits[i]
        if pattern >= 0x7F800000:
            if pattern != 0x80000000:  # minus zero is zero
                bad += 1
                continue
            pattern = np.uint32(0)
        counts[pattern >> 16] += 1
        zeros += pattern == 0
        low, high = min(low, pattern), max(high, pattern)
        value = np.float64(values[i])
        total += value
        squares += value * value
    return bad, zeros, low, high, total, squares
