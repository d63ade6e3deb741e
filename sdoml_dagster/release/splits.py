"""Splits of a release: named ranges of whole days with a guard gap between them.

The Sun changes little from one day to the next, so a guard gap keeps neighboring days from being in
different splits.
"""

import calendar
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sdoml_core.errors import SettingError
from sdoml_dagster.formatting import counted

_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_SPLIT_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")  # valid on Hugging Face and in file names
_GUARD = re.compile(r"(\d{1,4})\s*(?:d|days?)?")


@dataclass(frozen=True, slots=True)
class Period:
    """Days from ``first`` to ``last``, inclusive."""

    first: date
    last: date

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last

    def __str__(self) -> str:
        return f"{self.first}..{self.last}"


@dataclass(frozen=True, slots=True)
class Split:
    """A named part of a release."""

    name: str
    ranges: tuple[Period, ...]

    def __contains__(self, day: date) -> bool:
        return any(day in one for one in self.ranges)


@dataclass(frozen=True, slots=True)
class Splits:
    """All splits of a release, and the length of the gap between them."""

    parts: tuple[Split, ...] = ()
    guard_days: int = 0
    """Length of the gap between two splits, in days. The days in the gap are removed from the split
    that is listed first."""

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def train(self) -> Split:
        """Split that the constants are fitted to: ``train`` if it exists, or the first split."""
        return next((part for part in self.parts if part.name == "train"), self.parts[0])

    def of(self, day: date) -> Split | None:
        """Return the split of a day. None if the day is in a guard gap or outside all splits."""
        for number, part in enumerate(self.parts):
            if day in part:
                later = (one for other in self.parts[number + 1 :] for one in other.ranges)
                return None if any(self._too_close(day, one) for one in later) else part
        return None

    def kept_ranges(self, split: Split) -> tuple[Period, ...]:
        """Return the ranges of days that remain in a split after the guard gaps are removed."""
        runs: list[Period] = []
        for one in sorted(split.ranges, key=lambda one: one.first):
            for number in range((one.last - one.first).days + 1):
                day = one.first + timedelta(days=number)
                if self.of(day) is not split:
                    continue
                if runs and day - runs[-1].last == timedelta(days=1):
                    runs[-1] = Period(runs[-1].first, day)
                else:
                    runs.append(Period(day, day))
        return tuple(runs)

    def _too_close(self, day: date, other: Period) -> bool:
        gap = timedelta(days=self.guard_days)
        return other.first - gap <= day <= other.last + gap


NO_SPLITS = Splits()


def parse_days(text: str) -> Period:
    """Parse a period: ``2019``, ``2019-05``, ``2019-05-01``, or a range such as ``2010..2018``.

    Raises
    ------
    SettingError
        If the text is not a valid period, or its end is before its start.
    """
    start, dots, end = text.strip().partition("..")
    first, last = _period(start).first, _period(end if dots else start).last
    if last < first:
        raise SettingError(f"{text!r} ends before it starts")
    return Period(first, last)


def parse_splits(text: str, *, guard: str = "0") -> Splits:
    """Parse splits (``train=2010..2018,val=2019,test=2020..2021``) and a guard such as ``2d``.

    If a name occurs several times, its ranges are combined.

    Raises
    ------
    SettingError
        If the text cannot be parsed, two splits overlap, or the guard leaves a split without days.
    """
    found: dict[str, list[Period]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, days = item.partition("=")
        if not equals or not _SPLIT_NAME.fullmatch(name):
            raise SettingError(
                f"split {item!r} must have the form train=2010..2018: a lowercase name, =, and days"
            )
        found.setdefault(name, []).append(parse_days(days))
    if not found:
        raise SettingError(f"{text!r} contains no splits. An example is train=2010..2018,val=2019")
    parts = tuple(Split(name, tuple(ranges)) for name, ranges in found.items())
    _check_apart(parts)
    splits = Splits(parts, parse_guard(guard))
    for part in parts:
        if not splits.kept_ranges(part):
            raise SettingError(
                f"a guard of {counted(splits.guard_days, 'day')} leaves no days in split "
                f"{part.name}: make the split longer or the guard shorter"
            )
    return splits


def parse_guard(text: str) -> int:
    """Parse the length of a guard gap in whole days: ``2d``, ``2 days`` or ``2``.

    Raises
    ------
    SettingError
        If the text is not a whole number of days.
    """
    match = _GUARD.fullmatch(text.strip())
    if match is None:
        raise SettingError(f"guard {text!r} must be a whole number of days, such as 2d")
    return int(match[1])


def _period(text: str) -> Period:
    match = _PERIOD.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError  # noqa: TRY301 the same message as for a day that does not exist
        year, month, day = int(match[1]), int(match[2] or 0), int(match[3] or 0)
        first = date(year, month or 1, day or 1)
        if day:
            return Period(first, first)
        end_month = month or 12
        last = date(year, end_month, calendar.monthrange(year, end_month)[1])
    except ValueError:
        raise SettingError(
            f"{text!r} is not a year, month or day, such as 2019, 2019-05 or 2019-05-01"
        ) from None
    return Period(first, last)


def _check_apart(parts: Sequence[Split]) -> None:
    for number, part in enumerate(parts):
        for other in parts[number + 1 :]:
            for one in part.ranges:
                for two in other.ranges:
                    if one.first <= two.last and two.first <= one.last:
                        raise SettingError(
                            f"splits {part.name} ({one}) and {other.name} ({two}) overlap"
                        )
