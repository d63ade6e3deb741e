"""Coverage of a release: the status of every expected frame, by day and channel."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from functools import partial

import pyarrow as pa

from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.formats.parquet import write_parquet
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.inputs import BuiltDay, Frame
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class Count:
    """One channel on one day. ``expected`` is the sum of all fields after it."""

    day: date
    channel: str
    expected: int
    ok: int
    """The frame is in the release."""
    incomplete: int
    """The frame is good, but left out because its sample lacks another channel
    (``complete_only``)."""
    missing: int
    """The archive has no such frame."""
    quality: int
    """QUALITY marks the frame as unfit for science."""
    invalid: int
    """The archive's file is not a readable image of this kind."""
    blank: int
    """The image is empty."""
    outage: int
    """The archive did not respond."""
    unexplained: int
    """The frame is absent, and the day's frame table is missing or gives no reason."""
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
    "outage": "the archive did not respond",
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
        """Days that have no built frames."""
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
    built: Mapping[date, BuiltDay],
    channels: Iterable[str],
    report: Callable[[str], None],
) -> ReleaseCoverage:
    """Count the frames of a release by day, channel and status.

    Parameters
    ----------
    store, settings
        Store with the frame tables. For days without a table, the settings define the expected
        frames.
    days
        Days of the release, built or not.
    built
        Days that have a shard.
    channels
        Channels to count, in order.
    report
        Receives progress lines.
    """
    count = partial(_count_day, store, settings, built, tuple(channels))
    progress = Progress("release, counting frames", len(days), report, unit="days")
    counts: list[Count] = []
    tables: set[str] = set()
    for found, used in ordered_map(count, days, threads=settings.threads, name="coverage"):
        counts += found
        tables |= used
        progress.step("ok")
    return ReleaseCoverage(tuple(counts), tuple(sorted(tables)))


def _count_day(
    store: Store,
    settings: Settings,
    built: Mapping[date, BuiltDay],
    channels: Sequence[str],
    day: date,
) -> tuple[list[Count], set[str]]:
    """Return the counts of each channel, and the degradation tables used."""
    slots = settings.expected_slots(day)
    statuses: dict[Frame, str] = {}
    used: set[str] = set()
    packed: set[Frame] = set()
    released: set[Frame] = set()
    if day in built:
        statuses, used = _statuses(store, day)
        packed, released = built[day].packed_and_released(store)
    listed = {channel for _, channel in statuses}
    counts = []
    for channel in channels:
        expected = {slot for slot, name in statuses if name == channel}
        expected |= set(slots) if channel in settings.channels else set()
        expected |= {slot for slot, name in packed if name == channel}
        outcome: Counter[str] = Counter()
        for slot in expected:
            frame = (slot, channel)
            if day not in built:
                outcome["not_built"] += 1
            elif frame in packed:
                outcome["ok" if frame in released else "incomplete"] += 1
            else:
                # The day was built with a shorter range or a longer cadence.
                unlisted = "not_built" if channel in listed else "ok"
                status = statuses.get(frame, unlisted)
                # A frame that is good in the table but not in the shard was processed after
                # packing.
                outcome["unexplained" if status == "ok" else status] += 1
        counts.append(
            Count(day, channel, len(expected), **{name: outcome[name] for name in REASONS})
        )
    return counts, used


def _statuses(store: Store, day: date) -> tuple[dict[Frame, str], set[str]]:
    """Return the status of each frame in a day's frame tables, and the degradation tables used."""
    statuses: dict[Frame, str] = {}
    used: set[str] = set()
    for instrument in INSTRUMENTS:
        table = StoredDay(store, day).frame_columns(
            instrument, ("slot", "channel", "status", "degradation_table")
        )
        if table is None:
            continue
        slots, names, states, tables = (table[name] for name in table)
        for slot, name, state in zip(slots, names, states, strict=True):
            if name in CHANNELS:
                statuses[slot, name] = state
        used |= set(tables) - {None}
    return statuses, used
