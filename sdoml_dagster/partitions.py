"""The days of a dataset as Dagster partitions."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import dagster as dg
from pydantic import Field

from sdoml_core.errors import SettingError
from sdoml_dagster.days import DayRange
from sdoml_dagster.settings.model import Settings


def daily_partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Return one partition per UTC day in the range. A growing dataset has no last partition."""
    last = settings.last_day
    return dg.DailyPartitionsDefinition(
        start_date=f"{settings.start:%Y-%m-%d}",
        end_date=None if last is None else f"{last + timedelta(days=1):%Y-%m-%d}",
        timezone="UTC",
    )


LIVE_START = datetime(2026, 1, 1, tzinfo=UTC)
"""First hour of the near-real-time partitions. The archive keeps two weeks of frames."""

_HOUR = "%Y-%m-%d-%H:%M"


def live_partitions() -> dg.HourlyPartitionsDefinition:
    """Return one partition per hour.

    Near-real-time data do not depend on the range of the dataset.
    """
    # The current hour is a partition too, because its first slots appear before the hour ends.
    return dg.HourlyPartitionsDefinition(
        start_date=LIVE_START, timezone="UTC", fmt=_HOUR, end_offset=1
    )


def hour_key(hour: datetime) -> str:
    """Return the partition key of an hour."""
    return f"{hour:{_HOUR}}"


def run_days(context: dg.AssetExecutionContext) -> Iterator[date]:
    """Yield the days of a run in order: one day, or the range of a backfill run.

    Raises
    ------
    SettingError
        If the run has no partition.
    """
    if not context.has_partition_key and not context.has_partition_key_range:
        raise SettingError(
            "this run has no day: launch a backfill, or materialize the assets on the command "
            "line with --partition 2024-03-08"
        )
    keys = context.partition_keys
    if not keys:
        raise SettingError("the range of this run is empty: put the earlier day first")
    yield from map(date.fromisoformat, keys)


class DayRangeConfig(dg.Config):
    """Run config that limits a run to a range of days."""

    first_day: str | None = Field(None, description="ISO date. Earlier days are left out.")
    last_day: str | None = Field(None, description="ISO date. Later days are left out.")


def config_days(config: DayRangeConfig) -> DayRange:
    """Return the days in a run config.

    Raises
    ------
    SettingError
        If a day is not an ISO date.
    """
    return DayRange(
        _config_day(config.first_day, "first_day"), _config_day(config.last_day, "last_day")
    )


def _config_day(text: str | None, name: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise SettingError(f"run config {name}={text!r} is not a date such as 2024-03-08") from None
