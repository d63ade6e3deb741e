"""The hours of the rolling window: expected frames, and which of them may still improve."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sdoml_core.channels import CHANNELS, Instrument, parse_channels
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.live import DEFINITIVE, LIVE_TABLE, LiveRow
from sdoml_core.slots import day_slots, live_minutes
from sdoml_dagster.archive.tree import live_path
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

HOUR: Final = timedelta(hours=1)

WAIT: Final = timedelta(hours=24)
"""Age of a slot from which a missing frame is requested once more at most."""

PATIENCE: Final = timedelta(minutes=40)
"""Age of a slot from which a frame of another minute may replace a missing or damaged frame.
Channels appear 15 to 25 minutes after the exposure."""


def hour_of(time: datetime) -> datetime:
    """Return the start of the hour that contains a time."""
    return time.replace(minute=0, second=0, microsecond=0)


def window_start(settings: Settings, now: datetime) -> datetime:
    """Return the first hour of the rolling window."""
    return hour_of(now) - settings.live_hours * HOUR


def slots_between(settings: Settings, start: datetime, end: datetime) -> list[datetime]:
    """Return the slots after ``start`` and up to ``end``."""
    days = ((start + n * timedelta(days=1)).date() for n in range((end - start).days + 2))
    slots = (s for day in days for s in day_slots(day, cadence_minutes=settings.cadence_minutes))
    return [slot for slot in slots if start < slot <= end]


def hour_slots(settings: Settings, hour: datetime) -> tuple[datetime, ...]:
    """Return the slots of an hour."""
    return day_slots(
        hour.date(), cadence_minutes=settings.cadence_minutes, start=hour, end=hour + HOUR
    )


def candidates(settings: Settings, row: LiveRow) -> list[tuple[datetime, str]]:
    """Return the minute and file name of each frame that can fill a row, best first."""
    channel = CHANNELS[row.channel]
    minutes = live_minutes(
        channel,
        row.slot,
        tolerance_minutes=settings.aia_tolerance_minutes,
        cadence_minutes=settings.cadence_minutes,
    )
    return [(minute, live_path(channel, minute).rpartition("/")[2]) for minute in minutes]


def wanted(settings: Settings, row: LiveRow) -> list[str]:
    """Return the names of files that would fill or improve a row; empty if the row is final."""
    if row.reason == DEFINITIVE:
        return []
    names = []
    for _, name in candidates(settings, row):
        if row.status == "ok" and row.file == name:
            break
        if name not in row.rejects:
            names.append(name)
    return names


def may_improve(settings: Settings, row: LiveRow, now: datetime) -> bool:
    """Return whether a row is requested again after it was requested now.

    A file that was incomplete is requested for as long as the row is in the window.
    """
    first = candidates(settings, row)[0][1]
    return now - row.slot < WAIT or (row.status == "invalid" and first not in row.rejects)


def not_requested(slot: datetime, channel: str) -> LiveRow:
    """Return the row of a frame that was never requested."""
    return LiveRow(slot, channel, "missing", reason="not published yet")


def read_hour(
    store: Store, settings: Settings, hour: datetime
) -> dict[tuple[datetime, str], LiveRow]:
    """Read the table of an hour, with a row for each frame that the settings expect."""
    data = store.read_if_exists(layout.live_table(hour))
    try:
        found = LIVE_TABLE.decode(data) if data is not None else []
    except DamagedFileError:
        found = []  # a damaged table: its frames are requested again
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
