"""Select the samples that are within the dataset's ranges and have every channel."""

import copy
from collections.abc import Iterable, Sequence
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DatasetError
from sdoml_core.loader.times import Time, inside, intersect, iso, parse_ranges, parse_time, unite

INSTANT: Final = np.timedelta64(1, "s")
EVER: Final = (np.datetime64("1900-01-01", "s"), np.datetime64("9999-01-01", "s"))
"""Limits of a dataset that has no start or no end."""


class Selection:
    """Selected samples in chronological order.

    Parameters
    ----------
    slots
        Times of all samples in the catalog, ascending.
    offsets
        Position of each frame in its shard, negative if the frame is missing. Shape (samples,
        channels).
    channels
        Channel names, for messages.
    start, end
        Half-open range. None means unbounded.
    exclusions
        Half-open ranges (start, end) to leave out.
    source
        Path or URL of the shards, for messages.

    Attributes
    ----------
    ranges
        Half-open ranges that contain the samples.
    limits
        Like the ranges, but unbounded if no start or end was given. All data on which a sample
        depends, such as the value of a target, must be within these limits.
    exclusions
        Half-open ranges without samples.
    rows, times
        Catalog rows and times of the samples.

    Raises
    ------
    DatasetError
        If a range or an exclusion is empty, or no samples remain.
    """

    def __init__(
        self,
        slots: NDArray[np.datetime64],
        offsets: NDArray[np.int64],
        channels: Sequence[str],
        *,
        start: Time | None,
        end: Time | None,
        exclusions: Iterable[tuple[Time, Time]],
        source: str,
    ):
        if not len(slots):
            raise DatasetError(f"the shards in {source} are empty")
        self._slots = slots
        self._offsets = offsets
        self._channels = channels
        self.ranges = [self._bounds(start, end, source)]
        self.limits = [
            (
                EVER[0] if start is None else parse_time(start, "date_start"),
                EVER[1] if end is None else parse_time(end, "date_end"),
            )
        ]
        self.exclusions = _parse(exclusions, "date_exclusions", kind="exclusion")
        wanted = self.allowed()
        self.rows: NDArray[np.int64] = np.flatnonzero(wanted & (offsets >= 0).all(axis=1))
        self.times: NDArray[np.datetime64] = slots[self.rows]
        if not len(self.rows):
            raise DatasetError(self._why_none(wanted))

    def _bounds(
        self, start: Time | None, end: Time | None, source: str
    ) -> tuple[np.datetime64, np.datetime64]:
        """Return the part of a range that contains samples."""
        first, beyond = self._slots[0], self._slots[-1] + INSTANT
        a = first if start is None else parse_time(start, "date_start")
        b = beyond if end is None else parse_time(end, "date_end")
        found = f"{source} has samples from {iso(first)} to {iso(self._slots[-1])}"
        if start is not None and end is not None and a >= b:
            raise DatasetError(f"empty range: {iso(a)} is not before {iso(b)}; {found}")
        if b <= first or a >= beyond:
            raise DatasetError(f"no samples between {iso(a)} and {iso(b)}; {found}")
        return max(a, first), min(b, beyond)

    def _why_none(self, wanted: NDArray[np.bool_]) -> str:
        """Return the error message if no row in the ranges has every channel."""
        first, beyond = self.ranges[0]
        where = f"no sample between {iso(first)} and {iso(beyond - INSTANT)}"
        left = int(wanted.sum())
        excluded = int(inside(self._slots, self.ranges).sum()) - left
        if excluded and not left:
            return f"{where}: date_exclusions removes all {excluded} samples"
        counts = (self._offsets[wanted] >= 0).sum(axis=0).tolist()
        each = ", ".join(f"{c} {n}" for c, n in zip(self._channels, counts, strict=True))
        also = f"; date_exclusions removes {excluded} more" if excluded else ""
        return (
            f"{where} has all requested channels; frames per channel in these {left} samples: "
            f"{each}{also}"
        )

    def allowed(self) -> NDArray[np.bool_]:
        """Return a mask of the catalog rows that are in the ranges and not excluded."""
        return inside(self._slots, self.ranges) & ~inside(self._slots, self.exclusions)

    def covers(
        self,
        times: NDArray[np.datetime64],
        first: NDArray[np.datetime64],
        last: NDArray[np.datetime64],
    ) -> NDArray[np.bool_]:
        """Return whether each sample's interval is within the limits and outside all exclusions.

        Parameters
        ----------
        times
            Times of samples.
        first, last
            First and last time of the interval of each sample, inclusive.
        """
        covered = np.zeros(len(times), bool)
        for start, end in self.limits:
            covered |= (times >= start) & (times < end) & (first >= start) & (last < end)
        for start, end in self.exclusions:
            covered &= (last < start) | (first >= end)
        return covered

    def keep(self, wanted: NDArray[np.bool_]) -> Self:
        """Return a selection of the samples for which a mask is True."""
        part = copy.copy(self)
        part.rows, part.times = self.rows[wanted], self.times[wanted]
        return part

    def within(self, ranges: Iterable[tuple[Time, Time]]) -> Self:
        """Keep only the samples in half-open ranges.

        Raises
        ------
        DatasetError
            If no samples remain, or a range is empty.
        """
        bounds = _parse(ranges, "time", kind="range")
        part = copy.copy(self)
        part.ranges = intersect(self.ranges, unite(bounds))
        part.limits = intersect(self.limits, unite(bounds))
        keep = inside(self.times, part.ranges)
        if not keep.any():
            listed = ", ".join(f"{iso(start)} to {iso(end)}" for start, end in bounds)
            raise DatasetError(
                f"no samples in the given ranges ({listed or 'an empty list'}); "
                f"the dataset has samples from {iso(self.times[0])} to {iso(self.times[-1])}"
            )
        part.rows, part.times = self.rows[keep], self.times[keep]
        return part

    def find(self, time: np.datetime64) -> int | None:
        """Return the index of the sample at a time, or None."""
        number = int(np.searchsorted(self.times, time))
        return number if number < len(self.times) and self.times[number] == time else None

    def row_at(self, time: np.datetime64) -> int:
        """Return the catalog row of the sample at a time.

        Raises
        ------
        DatasetError
            If there is no such sample. The message gives the reason and the nearest samples.
        """
        number = self.find(time)
        if number is not None:
            return int(self.rows[number])
        after = int(np.searchsorted(self.times, time))
        near = [iso(t) for t in self.times[max(0, after - 1) : after + 1]]
        raise DatasetError(
            f"no sample at {iso(time)}: {self._why_not(time)}; the nearest are {', '.join(near)}"
        )

    def _why_not(self, time: np.datetime64) -> str:
        if not inside(np.array([time]), self.ranges)[0]:
            if self.times[0] < time < self.times[-1]:
                return "the time is between the ranges of the dataset"
            return f"the dataset runs from {iso(self.times[0])} to {iso(self.times[-1])}"
        if inside(np.array([time]), self.exclusions)[0]:
            return "the time is excluded"
        row = int(np.searchsorted(self._slots, time))
        if row < len(self._slots) and self._slots[row] == time:
            frames = zip(self._channels, self._offsets[row], strict=True)
            absent = [name for name, place in frames if place < 0]
            return f"the sample has no {', '.join(absent)}" if absent else "a target has no value"
        return "the shards have no frames for that time"


def _parse(
    ranges: Iterable[tuple[Time, Time]], what: str, *, kind: str
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Check that half-open ranges are not empty."""
    pairs = parse_ranges(ranges, what)
    for start, end in pairs:
        if start >= end:
            raise DatasetError(f"empty {kind}: {iso(start)} is not before {iso(end)}")
    return pairs


def check_channels(
    channels: Sequence[str] | str, available: Sequence[str], source: str
) -> tuple[str, ...]:
    """Check channel names, and return them in uppercase in the given order.

    Raises
    ------
    DatasetError
        If a name is unknown, unavailable, or repeated.
    """
    given = [channels] if isinstance(channels, str) else list(channels)
    for name in given:
        if not isinstance(name, str):
            raise DatasetError(f"a channel must be a string such as 'AIA_0171', not {name!r}")
    names = [name.upper() for name in given]
    there = f"{source} has {', '.join(available) or 'no frames'}"
    if not names:
        raise DatasetError(f"no channels were requested; {there}")
    unknown = [name for name in names if name not in CHANNELS]
    if unknown:
        plural = "s" * (len(unknown) > 1)
        raise DatasetError(f"unknown channel{plural} {', '.join(unknown)}; {there}")
    absent = [name for name in names if name not in available]
    if absent:
        raise DatasetError(f"these shards do not contain {', '.join(absent)}; {there}")
    if len(set(names)) < len(names):
        raise DatasetError(f"a channel was requested twice: {', '.join(names)}")
    return tuple(names)
