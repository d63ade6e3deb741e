"""Decide how long the rolling window waits for a frame, and which frames may still improve."""

from datetime import datetime, timedelta
from typing import Final

from sdoml_core.channels import CHANNELS
from sdoml_core.formats.live_table import DEFINITIVE, LiveRow
from sdoml_core.slots import live_minutes
from sdoml_dagster.archive.tree import live_path
from sdoml_dagster.settings.model import Settings

LAST_REQUEST_AGE: Final = timedelta(hours=24)
"""Age of a slot after which a missing frame is requested at most once more."""

STAND_IN_AGE: Final = timedelta(minutes=40)
"""Age of a slot after which a frame from another minute may replace a missing or damaged frame. AIA
frames appear 15 to 25 minutes after the exposure."""


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
    """Return the names of files that would fill or improve a row. A final row has none."""
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
    """Return whether a row that has just been requested will be requested again.

    An incomplete file is requested as long as its row is in the window.
    """
    first = candidates(settings, row)[0][1]
    return now - row.slot < LAST_REQUEST_AGE or (
        row.status == "invalid" and first not in row.rejects
    )
