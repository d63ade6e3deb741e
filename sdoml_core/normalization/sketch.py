"""Sketches: small histograms of the pixels of many frames, which can be merged exactly.

A sketch counts pixels in fine logarithmic bins. A bin is the upper 16 bits of a float32: its
exponent and 7 bits of its mantissa (a bfloat16). This gives 128 bins per octave for the whole range
of float32, without any parameter. A sketch also stores the exact minimum and maximum, and the sums
as fixed-point integers. Merging uses only integer arithmetic, so the same
frames give the same bytes in any order and grouping. The pixels are not needed again.

`sdoml_core.normalization.fit` turns sketches into constants.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import CorruptFrameError, NormalizationError

BINS = 0x7F80
"""Number of bins: one for each upper half of a finite, nonnegative float32 value."""

QUANTILE_TOLERANCE = 0.005
"""Maximum relative error of a quantile, for normal float32 values (above 1.2e-38)."""

TOTAL_BITS = 64
"""``total`` is in units of 2^-64, and ``squares`` in units of 2^-128."""


def _no_bins() -> NDArray[np.uint16]:
    return np.empty(0, np.uint16)


def _no_counts() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(slots=True, eq=False)
class Sketch:
    """Counts, extremes and sums of pixel values. ``Sketch()`` is empty."""

    frames: int = 0
    """Number of counted frames. ``pixels`` divided by this number is the size of a frame."""

    pixels: int = 0
    """Number of counted pixels, including zeros."""

    zeros: int = 0
    """Number of pixels that are exactly zero. No bin contains them."""

    minimum: float = math.inf
    """Exact minimum. Infinity if there are no pixels."""

    maximum: float = -math.inf
    """Exact maximum. Minus infinity if there are no pixels."""

    total: int = 0
    """Sum of the values, in units of 2^-64."""

    squares: int = 0
    """Sum of the squared values, in units of 2^-128."""

    bins: NDArray[np.uint16] = field(default_factory=_no_bins)
    """Upper 16 bits of the positive values that occur, in ascending order."""

    counts: NDArray[np.int64] = field(default_factory=_no_counts)
    """Number of pixels in each bin. All counts are positive."""

    @classmethod
    def of(cls, frame: NDArray[np.float32]) -> Self:
        """Count the pixels of one frame. Releases the GIL.

        Parameters
        ----------
        frame
            float32 array of any shape and unit, finite and nonnegative.

        Raises
        ------
        CorruptFrameError
            If a pixel is negative, infinite or NaN.
        TypeError
            If the frame is not float32.
        """
        from sdoml_core.normalization.count_pixels import count

        if frame.dtype != np.float32:
            raise TypeError(f"a sketch needs float32 pixels, not {frame.dtype}")
        values = np.ascontiguousarray(frame).reshape(-1)
        if values.size == 0:
            return cls()
        # Memory-mapped frames are read-only. A single array type needs only one compiled kernel.
        values.flags.writeable = False
        dense = np.zeros(BINS, np.int64)
        bad, zeros, low, high, total, squares = count(values.view(np.uint32), values, dense)
        if bad:
            raise CorruptFrameError(f"{bad} pixels are negative, infinite or NaN")
        dense[0] -= zeros
        minimum, maximum = np.array([low, high], np.uint32).view(np.float32).tolist()
        bins = np.flatnonzero(dense)
        return cls(
            frames=1,
            pixels=values.size,
            zeros=zeros,
            minimum=minimum,
            maximum=maximum,
            total=_fixed_point(total, TOTAL_BITS),
            squares=_fixed_point(squares, 2 * TOTAL_BITS),
            bins=bins.astype(np.uint16),
            counts=dense[bins],
        )

    def add(self, frame: NDArray[np.float32]) -> None:
        """Add a frame in place. The arguments and errors are the same as for `Sketch.of`."""
        both = self + type(self).of(frame)
        for name in self.__slots__:
            setattr(self, name, getattr(both, name))

    def __add__(self, other: "Sketch") -> "Sketch":
        return merge((self, other))

    @property
    def mean(self) -> float:
        """Return the mean pixel value.

        Raises
        ------
        NormalizationError
            If there are no pixels.
        """
        self._require_pixels()
        return self.total / (self.pixels << TOTAL_BITS)

    @property
    def std(self) -> float:
        """Return the population standard deviation of the pixel values.

        Raises
        ------
        NormalizationError
            If there are no pixels.
        """
        self._require_pixels()
        # Integer arithmetic is exact, so the difference below loses no precision.
        spread = max(self.squares * self.pixels - self.total**2, 0)
        return math.sqrt(spread / (self.pixels**2 << 2 * TOTAL_BITS))

    def quantile(self, q: float) -> float:
        """Return the value below which the fraction q of the pixels lies.

        As in NumPy by default, the quantile is interpolated linearly between the two order
        statistics next to ``q * (pixels - 1)``. Each order statistic is estimated by interpolation
        inside its bin, and clipped to the part of the bin that is within `QUANTILE_TOLERANCE` of
        both edges, and to [minimum, maximum]. The result is therefore within this tolerance of the
        exact quantile for any pixels.

        Raises
        ------
        NormalizationError
            If there are no pixels.
        ValueError
            If q is not in [0, 1].
        """
        if not 0 <= q <= 1:
            raise ValueError(f"q must be between 0 and 1, not {q}")
        self._require_pixels()
        rank = q * (self.pixels - 1)
        below = math.floor(rank)
        lower = self._order_statistic(below)
        if rank == below:
            return lower
        return lower + (rank - below) * (self._order_statistic(below + 1) - lower)

    def fraction_above(self, value: float) -> float:
        """Return the fraction of pixels above a value, interpolated linearly inside its bin.

        Raises
        ------
        NormalizationError
            If there are no pixels.
        """
        self._require_pixels()
        if value >= self.maximum:
            return 0.0
        if value < self.minimum:
            return 1.0
        own = int(np.array([value], np.float32).view(np.uint32)[0] >> 16)
        above = int(self.counts[np.searchsorted(self.bins, own, side="right") :].sum())
        place = int(np.searchsorted(self.bins, own))
        if place < len(self.bins) and int(self.bins[place]) == own:
            low, high = max(_edge(own), self.minimum), min(_edge(own + 1), self.maximum)
            # A bin with a single value: float32 must have rounded the argument up to that value.
            share = min(max((high - value) / (high - low), 0.0), 1.0) if high > low else 1.0
            return (above + share * int(self.counts[place])) / self.pixels
        return above / self.pixels

    def _require_pixels(self) -> None:
        if not self.pixels:
            raise NormalizationError("a sketch without pixels has no statistics")

    def _order_statistic(self, index: int) -> float:
        """Estimate the pixel value at an index of the sorted pixels, within the tolerance."""
        if index <= 0:
            return self.minimum
        if index >= self.pixels - 1:
            return self.maximum
        if index < self.zeros:
            return 0.0
        cumulated = np.cumsum(self.counts)
        place = int(np.searchsorted(cumulated, index - self.zeros, side="right"))
        count = int(self.counts[place])
        before = int(cumulated[place]) - count
        low, high = _edge(int(self.bins[place])), _edge(int(self.bins[place]) + 1)
        value = low + (high - low) * (index - self.zeros - before + 0.5) / count
        value = min(max(value, high * (1 - QUANTILE_TOLERANCE)), low * (1 + QUANTILE_TOLERANCE))
        return min(max(value, self.minimum), self.maximum)


def merge(sketches: Iterable[Sketch]) -> Sketch:
    """Merge sketches. The result has the same bytes in any order and grouping.

    The argument can be an iterator, so merging thousands of sketches needs little memory.
    """
    accumulator = _Accumulator()
    for sketch in sketches:
        accumulator.include(sketch)
    return accumulator.result()


def merge_channels(days: Iterable[Mapping[str, Sketch]]) -> dict[str, Sketch]:
    """Merge the sketches of several days by channel, sorted by name.

    The argument iterates over the results of `decode_sketches`. A day may lack channels.
    """
    accumulators: defaultdict[str, _Accumulator] = defaultdict(_Accumulator)
    for day in days:
        for name, sketch in day.items():
            accumulators[name].include(sketch)
    return {name: accumulators[name].result() for name in sorted(accumulators)}


class _Accumulator:
    """Accumulates sketches in an array with one cell per bin, which is fast."""

    def __init__(self) -> None:
        self._sum = Sketch()
        self._counts = np.zeros(BINS, np.int64)

    def include(self, sketch: Sketch) -> None:
        self._sum.frames += sketch.frames
        self._sum.pixels += sketch.pixels
        self._sum.zeros += sketch.zeros
        self._sum.minimum = min(self._sum.minimum, sketch.minimum)
        self._sum.maximum = max(self._sum.maximum, sketch.maximum)
        self._sum.total += sketch.total
        self._sum.squares += sketch.squares
        # A sketch's bins are distinct. NumPy indexing is fastest with its default integer type.
        np.add.at(self._counts, sketch.bins.astype(np.intp), sketch.counts)

    def result(self) -> Sketch:
        bins = np.flatnonzero(self._counts)
        return replace(self._sum, bins=bins.astype(np.uint16), counts=self._counts[bins])


def _edge(bin_number: int) -> float:
    """Return the lower edge of a bin."""
    return float(np.array([bin_number << 16], np.uint32).view(np.float32)[0])


def _fixed_point(value: float, bits: int) -> int:
    """Convert a float to a whole number of units of 2^-bits, rounding toward zero."""
    numerator, denominator = value.as_integer_ratio()
    return (numerator << bits) // denominator
