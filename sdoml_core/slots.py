"""Slots: the sample times of a dataset, and the minutes in the names of the raw files.

A slot is named after the minute of its HMI frame. The archive has AIA frames only at even minutes,
so an odd slot uses the AIA frame of the previous minute: HH:15 uses HH:14, and HH:45 uses HH:44.
The grid restarts at each midnight (UTC), regardless of the requested range.

The times in file names are UTC for AIA and TAI for HMI. As in the original dataset, slots ignore
this difference. ``sdoml_core.ephemeris.hmi_observed`` returns the true time of an HMI frame.
This module does no I/O.
"""

from datetime import UTC, date, datetime, timedelta

from sdoml_core.channels import Channel

MINUTE = timedelta(minutes=1)
DAY_MINUTES = 24 * 60


def midnight(day: date) -> datetime:
    """Return the start of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def day_slots(
    day: date,
    *,
    cadence_minutes: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[datetime, ...]:
    """Return the slot times of a UTC day within the half-open range [start, end), in order."""
    first = midnight(day)
    times = (first + minute * MINUTE for minute in range(0, DAY_MINUTES, cadence_minutes))
    return tuple(
        time for time in times if (start is None or time >= start) and (end is None or time < end)
    )


def paired_minute(channel: Channel, slot: datetime) -> datetime:
    """Return the minute in the file name of the frame that a channel uses for a slot."""
    return slot - (slot.minute % 2) * MINUTE if channel.instrument == "AIA" else slot


def candidate_minutes(
    channel: Channel, slot: datetime, *, tolerance_minutes: int, cadence_minutes: int
) -> tuple[datetime, ...]:
    """Return the minutes to try for a slot, best first.

    For AIA, these are the paired minute, followed by +2, −2, +4, −4 … minutes relative to it. HMI
    has one frame every 15 minutes, so it has no substitutes. A frame that is equally close to
    another slot is not a candidate, because no frame is used for two slots, even on different days.
    """
    paired = paired_minute(channel, slot)
    if channel.instrument == "HMI":
        return (paired,)
    # The last slot of a day can be less than one cadence before midnight.
    apart = DAY_MINUTES % cadence_minutes or cadence_minutes
    # With an odd cadence, every second slot is paired with the previous minute.
    reach = min(tolerance_minutes, (apart - apart % 2 - 1) // 2)
    offsets = (sign * distance for distance in range(2, reach + 1, 2) for sign in (1, -1))
    return (paired, *(paired + offset * MINUTE for offset in offsets))


LIVE_CADENCE = 3
"""Minutes between AIA frames in the near-real-time tree."""


def live_minutes(
    channel: Channel, slot: datetime, *, tolerance_minutes: int, cadence_minutes: int
) -> tuple[datetime, ...]:
    """Return the minutes of near-real-time frames to try for a slot, best first.

    The near-real-time AIA tree has a frame every three minutes. The nearest frame comes first. At a
    cadence of 15 minutes, it has the same minute as the slot. A minute that is equally close to
    another slot is not a candidate. HMI has no substitutes.
    """
    if channel.instrument == "HMI":
        return (slot,)
    day = midnight(slot.date())
    minute = (slot - day) // MINUTE
    apart = DAY_MINUTES % cadence_minutes or cadence_minutes
    reach = min(tolerance_minutes, (apart - 1) // 2)
    near = [m for m in range(minute - reach, minute + reach + 1) if m % LIVE_CADENCE == 0]
    return tuple(day + m * MINUTE for m in sorted(near, key=lambda m: (abs(m - minute), -m)))
