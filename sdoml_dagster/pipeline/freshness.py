"""Freshness: whether every day that the archive should have published has a shard."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sdoml_dagster.days import days_between, list_days
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

GRACE_DAYS = 1
"""Grace period in days after the publication lag, which gives the schedule time to build a day."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """The days that a dataset should have, and the days that are missing."""

    newest: date | None
    """The newest day with a shard."""

    due: date | None
    """The newest day that should have a shard, or ``None`` if no day is due yet."""

    missing: tuple[date, ...]
    """Days without a shard, from the first day that has one to the newest day that is due."""

    @property
    def fresh(self) -> bool:
        """Whether all days that are due have a shard."""
        return not self.missing

    def __str__(self) -> str:
        if self.due is None:
            return "no day is due yet"
        if self.fresh:
            return f"every day up to {self.due} has a shard"
        return f"no shard for {list_days(self.missing)}"


def judge_freshness(settings: Settings, store: Store, *, now: datetime) -> Freshness:
    """Compare the shards of a store with the days that are due.

    A day becomes due after ``SDOML_PUBLICATION_LAG_DAYS`` and one day of grace. Days after the end
    of the dataset are never due. Days before the first shard are ignored, because a dataset may be
    built backward from its newest day. In a store without shards, only the newest due day is
    reported as missing.
    """
    due = now.date() - timedelta(days=max(settings.publication_lag_days, 1) + GRACE_DAYS)
    if settings.last_day is not None:
        due = min(due, settings.last_day)
    built = {day for day, parts in layout.shard_files(store).items() if len(parts) == 2}
    newest = max(built, default=None)
    if due < settings.start.date():
        return Freshness(newest, None, ())
    first = max(min(built, default=due), settings.start.date())
    missing = [day for day in days_between(min(first, due), due) if day not in built]
    return Freshness(newest, due, tuple(missing))
