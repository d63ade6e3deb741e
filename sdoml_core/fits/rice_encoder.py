"""RICE_1 compression of 32-bit integer images, in blocks of 32 pixels, without the GIL.

astropy's compressor is many times slower. The decoder, `sdoml_core.fits.rice`, does not share code
with this module, so that neither can hide a bug in the other.

The encoder follows ``fits_rcomp`` in CFITSIO's ``ricecomp.c`` and the FITS standard 4.0, section
10.4.1. The same image gives the same bytes on every machine.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

BLOCK = 32
"""Number of pixels that share one split position."""

FS_BITS = 5
"""Number of bits in a block's split-position code, for 4-byte pixels."""

FS_MAX = 25
"""Blocks with this split position or a higher one are stored without compression."""


def encode_rows(image: NDArray[np.int32]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Compress each row of an image as one tile.

    Parameters
    ----------
    image
        int32 (rows, columns) with any values, including BLANK.

    Returns
    -------
    heap
        uint8 (bytes,): the compressed rows, one after another.
    descriptors
        int32 (rows, 2): size of each row in the heap in bytes, and its start.
    """
    rows, columns = image.shape
    blocks = -(-columns // BLOCK)
    worst = 4 + (blocks * FS_BITS + 32 * columns + 7) // 8  # no block is larger than its raw form
    heap = np.empty(rows * (worst + 8), np.uint8)
    descriptors = np.empty((rows, 2), np.int32)
    used = _encode(np.ascontiguousarray(image), heap, descriptors)
    return heap[:used], descriptors


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _flush(heap, position, accumulator, held):  # type: ignore[no-untyped-def]
    """Write 32 bits if the accumulator has at least that many.

    Return the new position and the number of bits that remain.
    """
    if held >= 32:
        held -= 32
        word = np.uint32(accumulator >> np.uint64(held))
        place = np.uint64(position)  # unsigned: numba does not check for negative indices
        heap[place] = np.uint8(word >> np.uint32(24))
        heap[place + np.uint64(1)] = np.uint8(word >> np.uint32(16))
        heap[place + np.uint64(2)] = np.uint8(word >> np.uint32(8))
        heap[place + np.uint64(3)] = np.uint8(word)
        position += 4
    return position, held


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _fold(row, start, size, last, zigzag):  # type: ignore[no-untyped-def]
    """Fold the differences of a block to unsigned numbers: 0, −1, 1, −2 become 0, 1, 2, 3.

    Return the sum of these numbers, their bitwise OR, and the last pixel.
    """
    total = np.uint64(0)
    any_bits = np.uint32(0)
    for k in range(size):
        value = np.int64(row[start + k])
        before = last if k == 0 else np.int64(row[start + k - 1])
        step = np.int64(np.int32(value - before))  # wraps around, as in the decoders
        folded = np.uint32((step << 1) ^ (step >> 63))
        zigzag[k] = folded
        any_bits |= folded
        total += np.uint64(folded)
    return total, any_bits, np.int64(row[start + size - 1])


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _split(total, size):  # type: ignore[no-untyped-def]
    """Return the split position for the mean of a block, as CFITSIO computes it."""
    spread = (float(total) - size // 2 - 1) / size
    mean = np.uint32(max(spread, 0.0)) >> np.uint32(1)
    split = 0
    while mean > 0:
        split += 1
        mean >>= np.uint32(1)
    return split


@njit(nogil=True, cache=True, error_model="numpy")
def _encode(image, heap, descriptors):  # type: ignore[no-untyped-def]
    rows, columns = image.shape
    zigzag = np.zeros(BLOCK, np.uint32)
    one = np.uint64(1)
    position = 0
    for row in range(rows):
        start = position
        accumulator = np.uint64(np.uint32(image[row, 0]))  # the first pixel is stored as is
        position, held = _flush(heap, position, accumulator, 32)
        last = np.int64(image[row, 0])
        for block in range(0, columns, BLOCK):
            size = min(BLOCK, columns - block)
            total, any_bits, last = _fold(image[row], block, size, last, zigzag)
            split = _split(total, size)
            raw = split >= FS_MAX
            code = FS_MAX + 1 if raw else 0 if total == 0 else split + 1
            accumulator = (accumulator << np.uint64(FS_BITS)) | np.uint64(code)
            position, held = _flush(heap, position, accumulator, held + FS_BITS)
            if total == 0:
                continue
            # Write each number as its high part (that many zeros and a one), followed by its low
            # part.
            stop = one << np.uint64(split)
            low_bits = 32 if raw else split + 1
            if not raw and size == BLOCK and (any_bits >> np.uint32(split)) + low_bits <= 16:
                # In nearly every block of an image, two numbers fit into 32 bits.
                for k in range(0, BLOCK, 2):
                    first, second = np.uint64(zigzag[k]), np.uint64(zigzag[k + 1])
                    bits = low_bits + np.int64(second >> np.uint64(split))
                    pair = ((first & (stop - one)) | stop) << np.uint64(bits)
                    pair |= (second & (stop - one)) | stop
                    bits += low_bits + np.int64(first >> np.uint64(split))
                    accumulator = (accumulator << np.uint64(bits)) | pair
                    position, held = _flush(heap, position, accumulator, held + bits)
                continue
            for k in range(size):
                number = np.uint64(zigzag[k])
                bits, low = low_bits, number
                if not raw:
                    zeros = np.int64(number >> np.uint64(split))
                    low = (number & (stop - one)) | stop
                    while zeros + low_bits > 32:
                        some = 31 if zeros > 31 else zeros
                        zeros -= some
                        accumulator <<= np.uint64(some)
                        position, held = _flush(heap, position, accumulator, held + some)
                    bits = low_bits + zeros
                accumulator = (accumulator << np.uint64(bits)) | low
                position, held = _flush(heap, position, accumulator, held + bits)
        # Pad the last byte with zeros.
        while held > 0:
            heap[position] = np.uint8((accumulator << np.uint64(32 - held)) >> np.uint64(24))
            held -= 8
            position += 1
        descriptors[row, 0] = position - start
        descriptors[row, 1] = start
    return position
