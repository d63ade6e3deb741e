"""Split a dataset into parts that are separated by gaps in time, to prevent leakage.

The Sun changes slowly, so samples that are close in time are similar. Samples in different parts
must therefore not be close in time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Final, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError, DatasetError
from sdoml_core.formats.release_files import RELEASE_SPLITS
from sdoml_core.loader.coverage import cadence_of
from sdoml_core.loader.selection import INSTANT, Selection
from sdoml_core.loader.storage.local import Files
from sdoml_core.loader.times import Time, iso, parse_duration, parse_ranges

NO_GUARD: Final = timedelta(0)
Range = tuple[np.datetime64, np.datetime64]


def release_splits(files: Files) -> dict[str, list[tuple[str, str]]]:
    """Read the ranges of a release's splits.

    Raises
    ------
    DatasetError
        If the folder is not a release with splits.
    DamagedFileError
        If the file is not a list of splits.
    """
    if not files.has(RELEASE_SPLITS):
        raise DatasetError(
            f"{files.root} has no {RELEASE_SPLITS}: pass the date ranges of the splits, or open a "
            "release that has splits"
        )
    try:
        listed = json.loads(files.read(RELEASE_SPLITS))["ranges"]
        return {
            str(name): [(str(first), str(last)) for first, last in ranges]
            for name, ranges in listed.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(
            f"{RELEASE_SPLITS} in {files.root} is damaged: {error}; run make_release again"
        ) from error


class Divisible(Protocol):
    """A dataset that can be split, such as `SDOMLlite`."""

    selection: Selection

    def within(self, ranges: Iterable[tuple[Time, Time]]) -> Self:
        """Return the part of the dataset within half-open ranges."""


D = TypeVar("D", bound=Divisible)


class Splits(Mapping[str, D]):
    """Parts of a dataset, by name. ``print`` displays a table."""

    def __init__(self, parts: Mapping[str, D], guard: timedelta):
        self._parts = dict(parts)
        self.guard = guard

    @classmethod
    def of(
        cls,
        dataset: D,
        ranges: Mapping[str, Iterable[tuple[Time, Time]]],
        *,
        guard: timedelta,
    ) -> "Splits[D]":
        """Split a dataset; see `SDOMLlite.split`.

        Raises
        ------
        DatasetError
            If ranges are not lists of pairs, two parts overlap, or a part has no samples.
        """
        parsed = {name: parse_ranges(listed, name) for name, listed in ranges.items()}
        kept = apart(parsed, guard=guard, step=cadence_of(dataset.selection.times))
        return cls({name: dataset.within(listed) for name, listed in kept.items()}, guard)

    def __getitem__(self, name: str) -> D:
        if name not in self._parts:
            raise KeyError(f"unknown split {name!r}; choose from {', '.join(self._parts)}")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __str__(self) -> str:
        rows = [("split", "first", "last", "ranges", "samples", "share")]
        parts = {name: part.selection for name, part in self.items()}
        total = sum(len(part.times) for part in parts.values())
        for name, part in parts.items():
            first, last, count = iso(part.times[0]), iso(part.times[-1]), len(part.times)
            share = f"{100 * count / total:.1f}%"
            rows.append((name, first, last, str(len(part.ranges)), f"{count:,}", share))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, f"guard gap {self.guard}"])

    __repr__ = __str__


def apart(
    ranges: Mapping[str, list[Range]], *, guard: timedelta, step: np.timedelta64
) -> dict[str, list[Range]]:
    """Shorten ranges so that a gap separates the samples of different parts.

    Parameters
    ----------
    ranges
        Ranges of each part. If two ranges are adjacent, the range of the part that is listed first
        is shortened.
    guard
        Minimum time between samples of different parts. Samples at exactly this distance are kept.
    step
        Time between samples. The last sample of a range is one step before its end.

    Raises
    ------
    DatasetError
        If a range is empty, or two parts overlap.
    """
    gap = parse_duration(guard, "guard")
    if gap < np.timedelta64(0, "s"):
        raise DatasetError(f"guard must not be negative, but is {guard}")
    flat = [(start, end, name) for name, listed in ranges.items() for start, end in listed]
    for start, end, name in flat:
        if start >= end:
            raise DatasetError(f"empty range in {name}: {iso(start)} to {iso(end)}")
        for other_start, other_end, other in flat:
            if other != name and start < other_end and other_start < end:
                raise DatasetError(
                    f"{name} ({iso(start)} to {iso(end)}) and {other} ({iso(other_start)} to "
                    f"{iso(other_end)}) overlap"
                )
    kept: dict[str, list[Range]] = {}
    names = list(ranges)
    for position, name in enumerate(names):
        pieces = sorted(ranges[name])
        for later in names[position + 1 :]:
            for start, end in ranges[later]:
                low, high = min(start, start - gap + INSTANT), max(end, end - step + gap)
                pieces = [piece for one in pieces for piece in _without(one, low, high)]
        kept[name] = pieces
    return kept


def _without(one: Range, start: np.datetime64, end: np.datetime64) -> list[Range]:
    """Subtract one range from another."""
    if end <= one[0] or one[1] <= start:
        return [one]
    pieces = [(one[0], min(one[1], start)), (max(one[0], end), one[1])]
    return [piece for piece in pieces if piece[0] < piece[1]]


def month_ranges(
    times: NDArray[np.datetime64], months: Mapping[str, Iterable[int]]
) -> dict[str, list[Range]]:
    """Return the ranges of the calendar months of each part. Adjacent months are joined.

    Raises
    ------
    DatasetError
        If a number is not a month, or a month is in more than one part.
    """
    owner: dict[int, str] = {}
    for name, numbers in months.items():
        for number in numbers:
            if not 1 <= number <= 12:
                raise DatasetError(f"{name}: {number} is not a month number (1 to 12)")
            if number in owner:
                raise DatasetError(f"month {number} is in both {owner[number]} and {name}")
            owner[number] = name
    ranges: dict[str, list[Range]] = {name: [] for name in months}
    first, last = times[0].astype("datetime64[M]"), times[-1].astype("datetime64[M]")
    for month in np.arange(first, last + 1):
        part = owner.get(int(month.astype(int)) % 12 + 1)
        if part is None:
            continue
        start, end = month.astype("datetime64[s]"), (month + 1).astype("datetime64[s]")
        joined = ranges[part]
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return ranges
