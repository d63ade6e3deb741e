"""Resample frames to the common grid: scale, shift and roll them, then combine k×k blocks.

The interpolation is bilinear. Without a roll, it is separable: every row and column of the fine
grid is a weighted mean of two neighboring input rows and columns. The weights are computed once per
scale. Warp, mask product, division and block sum are done in one pass over two cached rows, without
an intermediate image. Sums are computed in float64 in a fixed order, without fused multiply-add, so
results are bit-identical for all runs and thread counts. The kernels release the GIL.

With N the input size, n the resolution, k = N/n and offset o = N/2 − s·N/2, pixel (r, c) of the
fine grid samples the input at ((r − o)/s, (c − o)/s), with coordinates clamped to the edge.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Warp:
    """The mapping from the fine grid to an N×N input image.

    Fine pixel (r, c) samples the input at (x, y) = N/2 + R(c − N/2, r − N/2)/scale + shift, with
    R(u, v) = (u·cos roll + v·sin roll, −u·sin roll + v·cos roll).
    """

    scale: float
    """s, above 0. Values above 1 magnify."""

    shift_x: float = 0.0
    """Shift along the columns, in input pixels."""

    shift_y: float = 0.0
    """Shift along the rows, in input pixels."""

    roll: float = 0.0
    """Roll in degrees."""


def sum_blocks(
    image: NDArray[np.float32],
    *,
    resolution: int,
    warp: Warp,
    divisor: float,
    complete: bool,
    holes: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Compute block sums of warp(X)·warp(M) / divisor, flipped vertically.

    For positive pixels, X is the image and M is 1. For all other pixels, X and M are 0.

    A NaN pixel has weight 0. A sample is interpolated from those of its four neighbors that have
    data, with weights that are renormalized to a sum of 1. If no neighbor has data, the sample is
    left out, and the sum of the other samples in the block is scaled up to compensate. A block
    without any sample is 0.

    Parameters
    ----------
    image
        float32 (N, N), C-contiguous.
    resolution
        n, a divisor of N.
    warp
        How the image is sampled. Without a roll, the weights are separable, which is faster.
    divisor
        Number by which all values are divided.
    complete
        Whether the image is known to have no NaN. If so, the same result is computed in half the
        time.
    holes
        bool (n, n), filled in place: True for blocks without a sample.

    Returns
    -------
    float32 (n, n). Row 0 is computed from the last rows of the input.
    """
    out = np.empty((resolution, resolution), np.float32)
    size = image.shape[0]
    if warp.roll:
        roll = math.radians(warp.roll)
        turn = (math.cos(roll) / warp.scale, math.sin(roll) / warp.scale)
        _sum_rolled(image, turn, (warp.shift_x, warp.shift_y), divisor, out)
    else:
        columns = sample_taps(size, warp.scale, warp.shift_x)
        rows = sample_taps(size, warp.scale, warp.shift_y)
        kernel = _sum_complete if complete else _sum_weighted
        kernel(image, rows, columns, divisor, out)
    if not complete:
        empty = np.isnan(out)
        out[empty] = 0
        if holes is not None:
            holes[...] = empty
    return out


def mean_gray_blocks(
    rgb: NDArray[np.uint8], *, resolution: int, scale: float, label: tuple[int, int]
) -> NDArray[np.float32]:
    """Compute block means of the warped mean of R, G and B, divided by 255, without the label.

    Parameters
    ----------
    rgb
        uint8 (N, N, 3).
    resolution
        n, a divisor of N.
    scale
        s, above 0. Values above 1 magnify.
    label
        First row and last column (exclusive) of the label. Its pixels are treated as 0.

    Returns
    -------
    float32 (n, n) in [0, 1], not flipped.
    """
    first, weights = block_taps(rgb.shape[0], resolution, scale)
    out = np.empty((resolution, resolution), np.float32)
    _mean_gray(pack_rows(rgb), first, weights, label, out)
    return out


def pack_rows(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes of each row: three per pixel, or one if the colors share one array.

    Parameters
    ----------
    rgb
        uint8 (N, N, 3).

    Returns
    -------
    uint8 (N, 3 N) or (N, N), C-contiguous, read-only.
    """
    gray = rgb.strides[2] == 0
    rows = np.ascontiguousarray(rgb[..., 0] if gray else rgb).reshape(rgb.shape[0], -1).view()
    # The arguments then always have the same type, so the kernels are compiled once.
    rows.flags.writeable = False
    return rows


@lru_cache(maxsize=64)
def sample_taps(
    size: int, scale: float, shift: float = 0.0
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return input index i and weight f of each fine-grid coordinate: (1 − f)·x[i] + f·x[i + 1].

    Both arrays have the shape (size,). i is at most size − 2, so i + 1 always exists. The third
    array contains the starts of runs of consecutive indices, followed by the size.
    """
    offset = size / 2 - scale * size / 2
    position = np.clip((np.arange(size) - offset) / scale + shift, 0, size - 1)
    index = np.minimum(position.astype(np.int64), size - 2)
    weight = position - index
    runs = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1, [size]])
    for array in (index, weight, runs):
        array.flags.writeable = False  # threads share the cached arrays
    return index, weight, runs


@lru_cache(maxsize=64)
def block_taps(
    size: int, resolution: int, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the first input index (n,) and weights (taps, n) of each block mean."""
    index, weight, _ = sample_taps(size, scale)
    block = size // resolution
    left = index.reshape(resolution, block)
    share = weight.reshape(resolution, block)
    taps = int((left.max(axis=1) - left.min(axis=1)).max()) + 2
    first = np.minimum(left.min(axis=1), size - taps)
    weights = np.zeros((taps, resolution))
    column = np.broadcast_to(np.arange(resolution)[:, None], left.shape)
    np.add.at(weights, (left - first[:, None], column), (1 - share) / block)
    np.add.at(weights, (left - first[:, None] + 1, column), share / block)
    for array in (first, weights):
        array.flags.writeable = False
    return first, weights


@njit(nogil=True, cache=True, error_model="numpy")
def _interpolate_row(source: Any, taps: Any, scratch: Any, into: Any) -> bool:
    """Interpolate the positive part of one input row and its mask at all column samples.

    Return whether the whole row is positive. In this case, the mask is not computed. It would be
    exactly 1, because (1 − f) + f is rounded to 1.

    Column samples are divided into runs with consecutive input indices. The inner loop therefore
    reads memory in order and can be vectorized, unlike a gather through `index`.
    """
    index, weight, runs = taps
    size = source.shape[0]
    above: Any = np.int32(0)
    for c in range(size):
        x = source[c]
        positive = x > 0.0
        above += np.int32(positive)
        scratch[0, c] = x if positive else 0.0
    whole = above == size
    if whole:
        for n in range(runs.size - 1):
            start = runs[n]
            length = runs[n + 1] - start
            i = index[start]
            share = weight[start : start + length]
            left, right = scratch[0, i : i + length], scratch[0, i + 1 : i + 1 + length]
            value = into[0, start : start + length]
            for c in range(length):
                f = share[c]
                value[c] = (1.0 - f) * left[c] + f * right[c]
        return True
    for c in range(size):
        scratch[1, c] = 1.0 if source[c] > 0.0 else 0.0
    for n in range(runs.size - 1):
        start = runs[n]
        length = runs[n + 1] - start
        i = index[start]
        share = weight[start : start + length]
        left, right = scratch[0, i : i + length], scratch[0, i + 1 : i + 1 + length]
        left_flag, right_flag = scratch[1, i : i + length], scratch[1, i + 1 : i + 1 + length]
        value, mask = into[0, start : start + length], into[1, start : start + length]
        for c in range(length):
            f = share[c]
            g = 1.0 - f
            value[c] = g * left[c] + f * right[c]
            mask[c] = g * left_flag[c] + f * right_flag[c]
    return False


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_groups(line: Any, divisor: float, row: Any) -> None:
    """Sum the samples of a line that belong to each output pixel, and divide."""
    group = line.size // row.size
    if group == 2:  # the default resolution: a sum with a fixed length is vectorized
        for q in range(row.size):
            row[q] = (line[2 * q] + line[2 * q + 1]) / divisor
        return
    for q in range(row.size):
        amount = 0.0
        for c in range(q * group, (q + 1) * group):
            amount += line[c]
        row[q] = amount / divisor


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_complete(image: Any, rows: Any, columns: Any, divisor: float, out: Any) -> None:
    """Compute the block sums of an image without NaN."""
    index, weight, _ = rows
    size = image.shape[0]
    resolution = out.shape[0]
    block = size // resolution
    even, odd = np.empty((2, size)), np.empty((2, size))  # interpolated even and odd rows
    held_even = held_odd = -1
    whole_even = whole_odd = False
    scratch = np.empty((2, size))
    total = np.empty(size)
    for p in range(resolution):
        total[:] = 0.0
        for r in range(p * block, (p + 1) * block):
            top = index[r]
            top_is_odd = top & 1
            if held_even != top + top_is_odd:
                held_even = top + top_is_odd
                whole_even = _interpolate_row(image[held_even], columns, scratch, even)
                if whole_even:
                    even[1] = 1.0
            if held_odd != top + 1 - top_is_odd:
                held_odd = top + 1 - top_is_odd
                whole_odd = _interpolate_row(image[held_odd], columns, scratch, odd)
                if whole_odd:
                    odd[1] = 1.0
            f = 1.0 - weight[r] if top_is_odd else weight[r]
            g = 1.0 - f
            if whole_even and whole_odd:
                for c in range(size):
                    total[c] += g * even[0, c] + f * odd[0, c]
                continue
            for c in range(size):
                value = g * even[0, c] + f * odd[0, c]
                mask = g * even[1, c] + f * odd[1, c]
                total[c] += value * mask
        _sum_groups(total, divisor, out[resolution - 1 - p])


@njit(nogil=True, cache=True, error_model="numpy")
def _interpolate_row_weighted(source: Any, taps: Any, into: Any) -> None:
    """Interpolate like `_interpolate_row`. Also write the fraction of the weight that has data."""
    index, weight, _ = taps
    for c in range(source.shape[0]):
        a = source[index[c]]
        b = source[index[c] + 1]
        f = weight[c]
        g = 1.0 - f
        into[0, c] = (g * a if a > 0.0 else 0.0) + (f * b if b > 0.0 else 0.0)
        into[1, c] = (g if a > 0.0 else 0.0) + (f if b > 0.0 else 0.0)
        into[2, c] = (0.0 if np.isnan(a) else g) + (0.0 if np.isnan(b) else f)


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_weighted(image: Any, rows: Any, columns: Any, divisor: float, out: Any) -> None:
    """Compute the block sums of an image with NaN pixels, which have no weight.

    Empty blocks are NaN.
    """
    index, weight, _ = rows
    size = image.shape[0]
    resolution = out.shape[0]
    block = size // resolution
    lower, upper = np.empty((3, size)), np.empty((3, size))
    total = np.empty(size)
    samples = np.empty(size, np.int64)
    for p in range(resolution):
        total[:] = 0.0
        samples[:] = 0
        for r in range(p * block, (p + 1) * block):
            _interpolate_row_weighted(image[index[r]], columns, lower)
            _interpolate_row_weighted(image[index[r] + 1], columns, upper)
            f = weight[r]
            g = 1.0 - f
            for c in range(size):
                share = g * lower[2, c] + f * upper[2, c]
                if share > 0.0:
                    value = (g * lower[0, c] + f * upper[0, c]) / share
                    mask = (g * lower[1, c] + f * upper[1, c]) / share
                    total[c] += value * mask
                    samples[c] += 1
        for q in range(resolution):
            amount = 0.0
            count = 0
            for c in range(q * block, (q + 1) * block):
                amount += total[c]
                count += samples[c]
            whole = amount * (block * block / count) if count else np.nan
            out[resolution - 1 - p, q] = whole / divisor


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_rolled(
    image: Any, turn: tuple[float, float], shift: tuple[float, float], divisor: float, out: Any
) -> None:
    """Compute the sums of `_sum_weighted` for a warp with a roll. Each sample uses four pixels."""
    size = image.shape[0]
    resolution = out.shape[0]
    block = size // resolution
    middle = size / 2
    cosine, sine = turn
    last = size - 1.0
    for p in range(resolution):
        for q in range(resolution):
            amount = 0.0
            count = 0
            for r in range(p * block, (p + 1) * block):
                v = r - middle
                for c in range(q * block, (q + 1) * block):
                    u = c - middle
                    x = min(max(middle + cosine * u + sine * v + shift[0], 0.0), last)
                    y = min(max(middle - sine * u + cosine * v + shift[1], 0.0), last)
                    i, j = min(int(x), size - 2), min(int(y), size - 2)
                    f, g = x - i, y - j
                    value = mask = share = 0.0
                    for a in range(2):
                        for b in range(2):
                            pixel = image[j + a, i + b]
                            weight = (g if a else 1.0 - g) * (f if b else 1.0 - f)
                            if not np.isnan(pixel):
                                share += weight
                                if pixel > 0.0:
                                    value += weight * pixel
                                    mask += weight
                    if share > 0.0:
                        amount += (value / share) * (mask / share)
                        count += 1
            whole = amount * (block * block / count) if count else np.nan
            out[resolution - 1 - p, q] = whole / divisor


@njit(nogil=True, cache=True, error_model="numpy")
def _sum_channels(row: Any, gray: Any) -> None:
    """Sum red, green and blue, stored as three adjacent bytes, or as one byte if all are equal."""
    if row.size == gray.size:
        for c in range(gray.size):
            gray[c] = np.int32(3) * np.int32(row[c])
        return
    for c in range(gray.size):
        at = np.uint64(3) * np.uint64(c)  # unsigned: numba does not check for negative indices
        red, green, blue = row[at], row[at + np.uint64(1)], row[at + np.uint64(2)]
        gray[c] = np.int32(red) + np.int32(green) + np.int32(blue)


@njit(nogil=True, cache=True, error_model="numpy")
def _mean_gray(packed: Any, first: Any, weights: Any, label: tuple[int, int], out: Any) -> None:
    """Compute block means of the mean of three bytes, first down columns, then along rows.

    A ring buffer keeps the rows that overlapping blocks share.
    """
    size = packed.shape[0]
    taps, resolution = weights.shape
    ring = np.empty((taps, size))
    held = np.full(taps, -1)
    line = np.empty(size)
    total = np.empty(resolution)
    for p in range(resolution):
        line[:] = 0.0
        for t in range(taps):
            share = weights[t, p]
            if share == 0.0:
                continue
            row = first[p] + t
            gray = ring[row % taps]
            if held[row % taps] != row:
                held[row % taps] = row
                _sum_channels(packed[row], gray)
                if row >= label[0]:
                    gray[: label[1]] = 0.0
            for c in range(size):
                line[c] += share * gray[c]
        total[:] = 0.0
        for t in range(taps):
            shares = weights[t]
            for q in range(resolution):
                total[q] += shares[q] * line[np.uint64(first[q] + t)]
        for q in range(resolution):
            out[p, q] = total[q] / 765.0
