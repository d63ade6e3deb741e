"""Coverage of a release: the status of every expected frame, by day and channel."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime

import pyarrow as pa

from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.formats.parquet import write_parquet
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

Frames = set[tuple[datetime, str]]
"""Frames by slot and channel."""


@dataclass(frozen=True, slots=True)
class Count:
    """One channel on one day. ``expected`` is the sum of all fields after it."""

    day: date
    channel: str
    expected: int
    ok: int
    """The frame is in the release."""
    incomplete: int
    """Good, but left out because its sample lacks another channel (``complete_only``)."""
    missing: int
    """The archive has no such frame."""
    quality: int
    """QUALITY marks it as unfit for science."""
    invalid: int
    """The archive's file is not a readable image of this kind."""
    blank: int
    """The image is empty."""
    outage: int
    """The archive did not answer."""
    unexplained: int
    """Absent, and the frame table of the day is missing or gives no reason."""
    not_built: int
    """The day has no shard."""


REASONS = tuple(
    field.name for field in fields(Count) if field.name not in {"day", "channel", "expected"}
)
"""Every status that an expected frame can have."""

MEANINGS = {
    "ok": "in this release",
    "incomplete": "good, but its sample lacks another channel",
    "missing": "the archive has no such frame",
    "quality": "QUALITY marks it as unfit for science",
    "invalid": "the archive's file is not a readable image of this kind",
    "blank": "the image is empty, or too many pixels lack data",
    "outage": "the archive did not answer",
    "unexplained": "absent without a recorded reason",
    "not_built": "its day has no shard, or was built without this slot",
}
"""Explanation of each status for users."""


@dataclass(frozen=True, slots=True)
class ReleaseCoverage:
    """All counts of a release, and the degradation tables that its frames were corrected with."""

    counts: tuple[Count, ...]
    degradation_tables: tuple[str, ...]

    @property
    def days_without_shard(self) -> list[date]:
        """Days without any built frame."""
        whole = [count for count in self.counts if count.not_built]
        partial = {count.day for count in self.counts if count.not_built < count.expected}
        return sorted({count.day for count in whole} - partial)

    @property
    def days_built_in_part(self) -> list[date]:
        """Days that were built without some of the slots that the settings require."""
        days = {count.day for count in self.counts if count.not_built}
        return sorted(days - set(self.days_without_shard))

    def by_channel(self) -> dict[str, Counter[str]]:
        """Return the counts of each channel, summed over all days."""
        sums: dict[str, Counter[str]] = {}
        for count in self.counts:
            mine = sums.setdefault(count.channel, Counter())
            mine.update({name: getattr(count, name) for name in ("expected", *REASONS)})
        return sums

    def by_day(self) -> dict[date, float]:
        """Return the fraction of the expected frames that were found on each day."""
        found: Counter[date] = Counter()
        expected: Counter[date] = Counter()
        for count in self.counts:
            found[count.day] += count.ok + count.incomplete
            expected[count.day] += count.expected
        return {day: found[day] / total if total else 1.0 for day, total in expected.items()}

    def to_parquet(self) -> bytes:
        """Encode the table as Parquet. The same counts give the same bytes."""
        types = {"day": pa.date32(), "channel": pa.string()}
        schema = pa.schema(
            [(field.name, types.get(field.name, pa.int32())) for field in fields(Count)]
        )
        return write_parquet(pa.Table.from_pylist([asdict(count) for count in self.counts], schema))


def count_frames(
    store: Store,
    settings: Settings,
    *,
    days: Sequence[date],
    built: Mapping[date, Frames],
    released: Mapping[date, Frames],
    channels: Iterable[str],
) -> ReleaseCoverage:
    """Count the frames of a release by day, channel and status.

    Parameters
    ----------
    store, settings
        Store with the frame tables, and settings that define the expected frames of days without
        one.
    days
        Days of the release, built or not.
    built, released
        Frames in the daily shards, and the subset that is in the release.
    channels
        Channels to count, in order.
    """
    counts: list[Count] = []
    tables: set[str] = set()
    for day in days:
        statuses, used = _statuses(store, day) if day in built else ({}, set())
        tables |= used
        slots = settings.expected_slots(day)
        listed = {channel for _, channel in statuses}
        for channel in channels:
            expected = {slot for slot, name in statuses if name == channel}
            expected |= set(slots) if channel in settings.channels else set()
            expected |= {slot for slot, name in built.get(day, ()) if name == channel}
            outcome: Counter[str] = Counter()
            for slot in expected:
                frame = (slot, channel)
                if day not in built:
                    outcome["not_built"] += 1
                elif frame in built[day]:
                    outcome["ok" if frame in released[day] else "incomplete"] += 1
                else:
                    # The day was built with a shorter range or a longer cadence.
                    unlisted = "not_built" if channel in listed else "ok"
                    status = statuses.get(frame, unlisted)
                    # Good in the table but not in the shard: it was processed after packing.
                    outcome["unexplained" if status == "ok" else status] += 1
            counts.append(
                Count(day, channel, len(expected), **{name: outcome[name] for name in REASONS})
            )
    return ReleaseCoverage(tuple(counts), tuple(sorted(tables)))


def _statuses(store: Store, day: date) -> tuple[dict[tuple[datetime, str], str], set[str]]:
    """Return the status of each frame in a day's frame tables, and the degradation tables used."""
    rows = [
        row
        for instrument in INSTRUMENTS
        for row in StoredDay(store, day).frame_table(instrument) or ()
        if row.channel in CHANNELS
    ]
    used = {row.degradation_table for row in rows if row.degradation_table is not None}
    return {(row.slot, row.channel): row.status for row in rows}, used
