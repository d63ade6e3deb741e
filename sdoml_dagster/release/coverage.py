"""Coverage of a release: the status of every expected frame, by day and channel."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from functools import partial

import pyarrow as pa

from sdoml_core.channels import CHANNELS, INSTRUMENTS, Instrument
from sdoml_core.formats.ledger import FRAME_TABLE
from sdoml_core.formats.parquet import write_parquet
from sdoml_dagster import asset_names
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.built_days import BuiltDay, Frame
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class Count:
    """Counts for one channel and day. ``expected`` is the sum of all fields after it."""

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


@dataclass(frozen=True, slots=True)
class DayCounts:
    """Counts of one day, with the fingerprint of their inputs."""

    key: str
    """Fingerprint of all inputs. Empty for a day that was not built."""

    counts: tuple[Count, ...]
    degradation_tables: frozenset[str]


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
    """All counts of a release, and the degradation tables with which its frames were corrected."""

    counts: tuple[Count, ...]
    degradation_tables: tuple[str, ...]
    by_key: Mapping[date, DayCounts] = field(default_factory=dict, repr=False)
    """Counts of each built day, with a fingerprint, for the next build."""

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
        """Encode the table as Parquet. Equal counts produce equal bytes."""
        types = {"day": pa.date32(), "channel": pa.string()}
        columns = {
            one.name: pa.array(
                [getattr(count, one.name) for count in self.counts],
                types.get(one.name, pa.int32()),
            )
            for one in fields(Count)
        }
        return write_parquet(pa.table(columns))


def count_frames(
    store: Store,
    settings: Settings,
    *,
    days: Sequence[date],
    built: Mapping[date, BuiltDay],
    channels: Iterable[str],
    known: Mapping[date, DayCounts],
    report: Callable[[str], None],
) -> ReleaseCoverage:
    """Count the frames of a release by day, channel and status.

    Parameters
    ----------
    store, settings
        Store with the frame tables. For days without a table, the settings define the expected
        frames.
    days
        Days of the release, whether they were built or not.
    built
        Days that have a shard.
    channels
        Channels to count, in order.
    known
        Counts of an earlier build. A day with the same inputs is not counted again.
    report
        Receives progress lines.
    """
    count = partial(_count_day, store, settings, built, tuple(channels), known=known)
    progress = Progress("release, counting frames", len(days), report, unit="days")
    counts: list[Count] = []
    tables: set[str] = set()
    by_key: dict[date, DayCounts] = {}
    for day, found in zip(
        days, ordered_map(count, days, threads=settings.threads, name="coverage"), strict=True
    ):
        counts += found.counts
        tables |= found.degradation_tables
        if found.key:
            by_key[day] = found
        progress.step("ok")
    return ReleaseCoverage(tuple(counts), tuple(sorted(tables)), by_key)


def _count_day(
    store: Store,
    settings: Settings,
    built: Mapping[date, BuiltDay],
    channels: Sequence[str],
    day: date,
    *,
    known: Mapping[date, DayCounts],
) -> DayCounts:
    """Count the frames of each channel."""
    slots = settings.expected_slots(day)
    if day not in built:
        return DayCounts("", tuple(_not_built(settings, channels, day, len(slots))), frozenset())
    tables = {one: store.read_if_exists(layout.frame_table(day, one)) for one in INSTRUMENTS}
    hashes = [data and hashlib.sha256(data).hexdigest() for data in tables.values()]
    inputs = built[day].index_sha256, built[day].complete, hashes
    options = channels, settings.channels, settings.cadence_minutes, slots[:1], slots[-1:]
    key = hashlib.sha256(repr((inputs, options)).encode()).hexdigest()
    if (kept := known.get(day)) and kept.key == key:
        return kept
    statuses, used = _statuses(store, day, tables)
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
            if frame in packed:
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
    return DayCounts(key, tuple(counts), frozenset(used))


def _not_built(
    settings: Settings, channels: Sequence[str], day: date, slots: int
) -> Iterator[Count]:
    for channel in channels:
        expected = slots if channel in settings.channels else 0
        others = dict.fromkeys(REASONS, 0)
        yield Count(day, channel, expected, **others | {"not_built": expected})


_TABLE_COLUMNS = ("slot", "channel", "status", "degradation_table")


def _statuses(
    store: Store, day: date, tables: Mapping[Instrument, bytes | None]
) -> tuple[dict[Frame, str], set[str]]:
    """Return the status of each frame in a day's frame tables, and the degradation tables used."""
    statuses: dict[Frame, str] = {}
    used: set[str] = set()
    for instrument, data in tables.items():
        if data is None:
            continue
        columns = store.decode(
            layout.frame_table(day, instrument),
            data,
            lambda table: FRAME_TABLE.read(table, _TABLE_COLUMNS),
            made_by=f"{asset_names.processed(instrument)} of {day}",
        )
        slots, names, states, degradations = columns.values()
        for slot, name, state in zip(slots, names, states, strict=True):
            if name in CHANNELS:
                statuses[slot, name] = state
        used |= set(degradations) - {None}
    return statuses, used
