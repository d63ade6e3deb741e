"""Convert user-supplied times, durations and ranges to NumPy types, and back."""

import contextlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError

Time = datetime | date | np.datetime64 | str
"""Types that users can pass as times. Naive times are UTC. Strings are in ISO format."""


def parse_time(time: Time, what: str = "time", *, unit: str = "s") -> np.datetime64:
    """Convert a time to datetime64 in UTC, with the precision of `unit`.

    Raises
    ------
    DatasetError
        If the argument is not a time. The message calls it `what`.
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.strip())
        except ValueError as error:
            raise DatasetError(
                f"{what} {time!r} is not an ISO date such as 2022-11-01T00:15:00"
            ) from error
    if isinstance(time, datetime) and time.tzinfo is not None:
        try:
            time = time.astimezone(UTC).replace(tzinfo=None)
        except OverflowError as error:
            raise DatasetError(f"{what} {time} is outside the years 1 to 9999 in UTC") from error
    # pandas' NaT is a datetime, but it is not equal to itself.
    if isinstance(time, date | np.datetime64) and time == time:  # noqa: PLR0124
        return cast("np.datetime64", np.array(time, f"datetime64[{unit}]")[()])
    hint = (
        "; convert numbers, for example with pandas.to_datetime(numbers, unit='s')"
        if isinstance(time, int | float | np.number)
        else ""
    )
    raise DatasetError(f"{what} {time!r} is neither a datetime nor an ISO date{hint}")


def parse_ranges(
    ranges: Iterable[tuple[Time, Time]], what: str
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Convert pairs of times to datetime64[s] in UTC.

    Raises
    ------
    DatasetError
        If the argument is not a list of pairs. The message calls it `what`.
    """
    pairs = []
    for given in ranges if isinstance(ranges, Iterable) else (ranges,):
        pair = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else (*given,)
        if len(pair) != 2:
            raise DatasetError(
                f"{what}: {given!r} is not a range; pass a list of pairs such as "
                "[('2022-11-01', '2022-12-01')]"
            )
        pairs.append((parse_time(pair[0], what), parse_time(pair[1], what)))
    return pairs


def parse_duration(duration: timedelta, what: str) -> np.timedelta64:
    """Convert a duration to timedelta64[s].

    Raises
    ------
    DatasetError
        If the argument is not a duration. The message calls it `what`.
    """
    seconds = np.timedelta64("NaT")
    if isinstance(duration, timedelta | np.timedelta64):
        with contextlib.suppress(TypeError):  # months have no fixed length
            seconds = np.timedelta64(duration, "s")
    if np.isnat(seconds):
        raise DatasetError(
            f"{what}={duration!r} is not a duration; pass a timedelta such as timedelta(minutes=15)"
        )
    return seconds


def iso(time: np.datetime64) -> str:
    """Format a time as ``2022-11-01T00:15:00``, like the original dataset."""
    return str(time.astype("datetime64[s]"))


def inside(
    slots: NDArray[np.datetime64], ranges: Iterable[tuple[np.datetime64, np.datetime64]]
) -> NDArray[np.bool_]:
    """Return a mask of the times that are in any of the half-open ranges."""
    mask = np.zeros(len(slots), bool)
    for start, end in ranges:
        mask |= (slots >= start) & (slots < end)
    return mask


def unite(
    ranges: Iterable[tuple[np.datetime64, np.datetime64]],
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Merge ranges into sorted ranges that neither overlap nor touch."""
    united: list[tuple[np.datetime64, np.datetime64]] = []
    for start, end in sorted(ranges):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def intersect(
    one: Iterable[tuple[np.datetime64, np.datetime64]],
    other: Iterable[tuple[np.datetime64, np.datetime64]],
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Return the sorted intersection of two lists of ranges."""
    other = list(other)
    both = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return sorted((start, end) for start, end in both if start < end)
