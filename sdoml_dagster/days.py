"""Ranges of days, readable lists of days, and parsing of days."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

LISTED_RUNS = 12
"""Maximum number of ranges of consecutive days that a message or a card lists."""


@dataclass(frozen=True, slots=True)
class DayRange:
    """Days from ``first`` to ``last``, inclusive. ``None`` means no limit on that side."""

    first: date | None = None
    last: date | None = None

    def __contains__(self, day: date) -> bool:
        return (self.first is None or day >= self.first) and (self.last is None or day <= self.last)

    def __str__(self) -> str:
        """Format the range for messages, such as `` from 2024-03-01 on``. Empty for all days."""
        if self.first is None and self.last is None:
            return ""
        if self.first == self.last:
            return f" on {self.first}"
        if self.first is None:
            return f" up to {self.last}"
        return f" from {self.first} " + ("on" if self.last is None else f"to {self.last}")


ALL_DAYS = DayRange()


def days_between(first: date, last: date) -> list[date]:
    """Return all days from ``first`` to ``last``, inclusive."""
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def list_days(days: Iterable[date]) -> str:
    """Format sorted days as ranges: ``2024-03-01 … 2024-03-07, 2024-03-09``."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    texts = [_run(run) for run in runs]
    more = len(texts) - LISTED_RUNS
    rest = f" and {more} more range{'s' * (more > 1)} of days" if more > 0 else ""
    return ", ".join(texts[:LISTED_RUNS]) + rest


def parse_day(text: str) -> date | None:
    """Parse a day such as ``2024-03-08``. Return ``None`` for other text."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _run(days: Sequence[date]) -> str:
    return f"{days[0]} … {days[-1]}" if len(days) > 1 else f"{days[0]}"
