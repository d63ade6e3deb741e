"""Times as users give them, and as they get them back."""

import contextlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError

Time = datetime | date | np.datetime64 | str
"""Naive times are UTC; strings are in ISO format."""


def parse_time(time: Time, what: str = "time") -> np.datetime64:
    """A time as datetime64[s] in UTC.

    Raises
    ------
    DatasetError
        If it is none; the message names it by `what`.
    """
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time.strip())
        except ValueError as error:
            raise DatasetError(
                f"{what} {time!r} is no ISO date such as 2022-11-01T00:15:00"
            ) from error
    if isinstance(time, datetime) and time.tzinfo is not None:
        time = time.astimezone(UTC).replace(tzinfo=None)
    if isinstance(time, date) or (isinstance(time, np.datetime64) and not np.isnat(time)):
        return cast("np.datetime64", np.array(time, "datetime64[s]")[()])
    raise DatasetError(f"{what} {time!r} is neither a datetime nor an ISO date")


def parse_ranges(
    ranges: Iterable[tuple[Time, Time]], what: str
) -> list[tuple[np.datetime64, np.datetime64]]:
    """Pairs of times as datetime64[s] in UTC.

    Raises
    ------
    DatasetError
        If something else than pairs is given, such as a pair alone; the message names it by `what`.
    """
    pairs = []
    for given in ranges if isinstance(ranges, Iterable) else (ranges,):
        pair = (given,) if isinstance(given, str) or not isinstance(given, Iterable) else (*given,)
        if len(pair) != 2:
            raise DatasetError(
                f"{what}: {given!r} is no range; a list of pairs is needed, such as "
                "[('2022-11-01', '2022-12-01')]"
            )
        pairs.append((parse_time(pair[0], what), parse_time(pair[1], what)))
    return pairs


def parse_duration(duration: timedelta, what: str) -> np.timedelta64:
    """A length of time as timedelta64[s].

    Raises
    ------
    DatasetError
        If it is none; the message names it by `what`.
    """
    seconds = np.timedelta64("NaT")
    if isinstance(duration, timedelta | np.timedelta64):
        with contextlib.suppress(TypeError):  # months have no length
            seconds = np.timedelta64(duration, "s")
    if np.isnat(seconds):
        raise DatasetError(
            f"{what}={duration!r} is no length of time: give a timedelta such as "
            "timedelta(minutes=15)"
        )
    return seconds


def iso(time: np.datetime64) -> str:
    """``2022-11-01T00:15:00``, as the original dataset tells times."""
    return str(time.astype("datetime64[s]"))


def inside(
    slots: NDArray[np.datetime64], ranges: Iterable[tuple[np.datetime64, np.datetime64]]
) -> NDArray[np.bool_]:
    """Which times lie in any of the half-open ranges."""
    mask = np.zeros(len(slots), bool)
    for start, end in ranges:
        mask |= (slots >= start) & (slots < end)
    return mask


def unite(
    ranges: Iterable[tuple[np.datetime64, np.datetime64]],
) -> list[tuple[np.datetime64, np.datetime64]]:
    """The same times as ranges in order that neither overlap nor touch."""
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
    """What lies in ranges of both kinds, in order."""
    other = list(other)
    both = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return sorted((start, end) for start, end in both if start < end)
