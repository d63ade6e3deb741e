"""The kernel that counts the pixels of a frame for its sketch.

This is a separate module because importing Numba takes more time and memory than a fit over the
whole mission. A fit merges sketches and does not count pixels.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True)
def count(
    bits: NDArray[np.uint32], values: NDArray[np.float32], counts: NDArray[np.int64]
) -> tuple[int, int, np.uint32, np.uint32, float, float]:
    """Count pixels by the upper 16 bits of their float32 bit pattern.

    Parameters
    ----------
    bits, values
        The same pixels as bit patterns and as float32, one-dimensional.
    counts
        Counts per upper half. Updated in place.

    Returns
    -------
    tuple
        Number of negative, infinite or NaN pixels (which are not counted), number of zeros, lowest
        and highest bit pattern, and the sum and the sum of squares in float64. The sums are
        computed in the order of the pixels, so they are the same on every machine.
    """
    bad = zeros = 0
    low, high = np.uint32(0xFFFFFFFF), np.uint32(0)
    total = squares = 0.0
    for i in range(bits.size):
        pattern = bits[i]
        if pattern >= 0x7F800000:
            if pattern != 0x80000000:  # count −0.0 as zero
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
