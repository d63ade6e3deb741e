"""Slots: the times that a dataset has, and the archive's file names for them.

A pure table without I/O. A slot is named by its HMI minute; AIA observes at even minutes only,
so the AIA frame of an odd minute is the one a minute earlier: (HH:15, HH:14), (HH:45, HH:44).
The grid starts anew at each midnight (UTC), whatever range is asked for.

File names carry UTC for AIA and TAI for HMI. As the original dataset does, a slot takes both
names at face value; ``sdoml_core.ephemeris.hmi_observed`` gives the true instant of an HMI frame.
"""

from datetime import UTC, date, datetime, timedelta

from sdoml_core.channels import Channel

MINUTE = timedelta(minutes=1)
DAY_MINUTES = 24 * 60


def midnight(day: date) -> datetime:
    """The first instant of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def day_slots(
    day: date,
    *,
    cadence_minutes: int,
    start: datetime | None = None,
    end: datetime | None = None,
) -> tuple[datetime, ...]:
    """Slot times of a UTC day that lie in the half-open range [start, end), in order."""
    first = midnight(day)
    times = (first + minute * MINUTE for minute in range(0, DAY_MINUTES, cadence_minutes))
    return tuple(
        time for time in times if (start is None or time >= start) and (end is None or time < end)
    )


def paired_minute(channel: Channel, slot: datetime) -> datetime:
    """The minute that a channel's frame of a slot has in its file name."""
    return slot - (slot.minute % 2) * MINUTE if channel.instrument == "AIA" else slot


def candidate_minutes(
    channel: Channel, slot: datetime, *, tolerance_minutes: int, cadence_minutes: int
) -> tuple[datetime, ...]:
    """Minutes to try for a slot, best first: the paired one, then +2, −2, +4, −4 … for AIA.

    HMI has one frame every 15 minutes, so nothing can stand in for it. Nor does a frame stand in
    that is as near to another slot: no frame serves two slots, also of two days.
    """
    paired = paired_minute(channel, slot)
    if channel.instrument == "HMI":
        return (paired,)
    # The last slot of a day may be nearer to the next midnight than the cadence.
    apart = DAY_MINUTES % cadence_minutes or cadence_minutes
    # Of an odd cadence, every second one is paired a minute earlier.
    reach = min(tolerance_minutes, (apart - apart % 2 - 1) // 2)
    offsets = (sign * distance for distance in range(2, reach + 1, 2) for sign in (1, -1))
    return (paired, *(paired + offset * MINUTE for offset in offsets))
