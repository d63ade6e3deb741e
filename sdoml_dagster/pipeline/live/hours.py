"""The hours of the rolling window: their slots and their tables of expected frames."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sdoml_core.channels import CHANNELS, Instrument, parse_channels
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.live_table import LIVE_TABLE, LiveRow
from sdoml_core.slots import day_slots
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

HOUR: Final = timedelta(hours=1)


def hour_of(time: datetime) -> datetime:
    """Return the start of the hour that contains a time."""
    return time.replace(minute=0, second=0, microsecond=0)


def window_start(settings: Settings, now: datetime) -> datetime:
    """Return the first hour of the rolling window."""
    return hour_of(now) - settings.live_hours * HOUR


def slots_between(settings: Settings, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots after ``start``, up to and including ``end``."""
    days = ((start + n * timedelta(days=1)).date() for n in range((end - start).days + 2))
    slots = (s for day in days for s in day_slots(day, cadence_minutes=settings.cadence_minutes))
    return [slot for slot in slots if start < slot <= end]


def hour_slots(settings: Settings, hour: datetime) -> tuple[datetime, ...]:
    """Return the slots in an hour."""
    return day_slots(
        hour.date(), cadence_minutes=settings.cadence_minutes, start=hour, end=hour + HOUR
    )


def not_requested(slot: datetime, channel: str) -> LiveRow:
    """Return the row for a frame that was never requested."""
    return LiveRow(slot, channel, "missing", reason="not published yet")


def read_hour(
    store: Store, settings: Settings, hour: datetime
) -> dict[tuple[datetime, str], LiveRow]:
    """Read the table of an hour, with a row for each frame that the settings expect."""
    data = store.read_if_exists(layout.live_table(hour))
    try:
        found = LIVE_TABLE.decode(data) if data is not None else []
    except DamagedFileError:
        found = []  # the frames of a damaged table are requested again
    known = {(row.slot, row.channel): row for row in found}
    return {
        key: known.get(key) or not_requested(*key)
        for key in (
            (slot, channel.name)
            for slot in hour_slots(settings, hour)
            for channel in parse_channels(settings.channels)
        )
    }


def of_instrument(rows: Iterable[LiveRow], instrument: Instrument) -> list[LiveRow]:
    """Return the rows of one instrument."""
    return [row for row in rows if CHANNELS[row.channel].instrument == instrument]
