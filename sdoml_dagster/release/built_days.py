"""Find the built days of a release and check that they are consistent.

This module performs all checks that need no pixels, before an earlier release is changed. Each
shard must have an index and its recorded size. All shards must have the same normalization and
pixel type.
"""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.errors import DamagedFileError, MissingInputError, NormalizationError
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.formats.index import Index, decode_index, read_footer, read_frames
from sdoml_core.formats.release_index import ShardFacts, shard_facts
from sdoml_core.normalization.constants import Normalization, from_json
from sdoml_dagster.days import DayRange, list_days
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.progress import Progress
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

Frame = tuple[datetime, str]
"""Slot and channel of a frame."""


@dataclass(frozen=True, slots=True)
class BuiltDay:
    """One day's shard, as described by its index. Its rows are read again when they are needed."""

    day: date
    facts: ShardFacts
    """Properties of the released rows."""

    inputs: str | None
    """Fingerprint of the inputs of the shard. None if it was not recorded."""

    frames: Mapping[str, int]
    """Number of frames of each channel in the daily shard."""

    complete: tuple[str, ...] | None
    """Channels that each released sample must have. None means that all rows are released."""

    index_sha256: str
    """SHA-256 of the index file."""

    @property
    def whole(self) -> bool:
        """Whether all rows of the daily shard are released."""
        return sum(self.facts.frames.values()) == sum(self.frames.values())

    @property
    def pixels(self) -> str | None:
        """Type and resolution of the frames. None for a day without frames."""
        if not self.facts.frames:
            return None
        return f"{self.encoding or self.facts.dtype} at {self.facts.resolution}×"

    @property
    def encoding(self) -> CompactEncoding | None:
        """Compact encoding of the frames. None for npy and for a day without frames."""
        return self.facts.encoding

    def index(self, store: Store) -> Index:
        """Read only the released rows of the index."""
        index = decode_index(store.read(layout.shard_index(self.day)))
        if self.complete is None:
            return index
        return replace(index, table=complete_rows(index.table, self.complete))

    def packed_and_released(self, store: Store) -> tuple[set[Frame], set[Frame]]:
        """Return the slot and channel of each packed frame, and of each released frame."""
        packed = read_frames(store.read(layout.shard_index(self.day)))
        if self.complete is None:
            return packed, packed
        found = Counter(slot for slot, channel in packed if channel in self.complete)
        return packed, {
            (slot, channel)
            for slot, channel in packed
            if channel in self.complete and found[slot] == len(self.complete)
        }


def built_days(
    store: Store,
    *,
    days: DayRange,
    threads: int,
    report: Callable[[str], None],
    complete: tuple[str, ...] | None = None,
    known: Mapping[date, BuiltDay],
) -> list[BuiltDay]:
    """Return the days of a range that have a shard, in order.

    Parameters
    ----------
    store, days
        The store, and the range of days.
    threads
        Number of indexes that are read in parallel.
    report
        Receives progress lines.
    complete
        Channels that each released sample must have. None means that all rows are released.
    known
        Days of an earlier build. An index with the same bytes is not decoded again.

    Raises
    ------
    MissingInputError
        If no day has a shard, or if a shard has no index.
    DamagedFileError
        If an index cannot be read, or if a shard's size differs from the size in its index.
    """
    found, sizes = _shards_of(store, days)
    progress = Progress("release, reading indexes", len(found), report, unit="days")
    read = partial(_read_day, store, sizes, complete, known)
    built = []
    for day in ordered_map(read, found, threads=threads, name="index"):
        built.append(day)
        progress.step("ok")
    return built


def recorded_shards(
    store: Store, *, days: DayRange, threads: int
) -> list[tuple[date, str, str | None]]:
    """Return the day, SHA-256 and inputs of each shard in a range, from the footer of its index.

    Raises
    ------
    MissingInputError, DamagedFileError
        As for `built_days`. Rows are not read, so damaged rows are not detected.
    """
    found, sizes = _shards_of(store, days)
    read = partial(_read_footer, store, sizes)
    return list(ordered_map(read, found, threads=threads, name="index"))


def _shards_of(store: Store, days: DayRange) -> tuple[list[date], dict[int, dict[str, int]]]:
    """Return the days that have a shard, and the sizes of all files in their years' folders."""
    found = {day: parts for day, parts in layout.shard_files(store).items() if day in days}
    if not found:
        raise MissingInputError(
            f"{store.locate('')} has no shard{days}: run build_shards first, or check the store"
        )
    halves = sorted(day for day, parts in found.items() if len(parts) < 2)
    if halves:
        raise MissingInputError(
            f"{store.url} has a shard or an index, but not both, for {list_days(halves)}: "
            "run build_shards for these days again"
        )
    sizes = {
        year: store.sizes(layout.year_of_shards(year))
        for year in sorted({day.year for day in found})
    }
    return sorted(found), sizes


def _read_day(
    store: Store,
    sizes: dict[int, dict[str, int]],
    complete: tuple[str, ...] | None,
    known: Mapping[date, BuiltDay],
    day: date,
) -> BuiltDay:
    data = store.read(layout.shard_index(day))
    sha256 = hashlib.sha256(data).hexdigest()
    built = known.get(day)
    if built is None or (built.index_sha256, built.complete) != (sha256, complete):
        index = _decoded(store, day, data, decode_index)
        facts = shard_facts(index)
        built = BuiltDay(day, facts, index.inputs, facts.frames, complete, sha256)
        if complete is not None:
            rows = complete_rows(index.table, complete)
            built = replace(built, facts=shard_facts(replace(index, table=rows)))
    _check_size(store, sizes, day, built.facts.bytes)
    return built


def _read_footer(
    store: Store, sizes: dict[int, dict[str, int]], day: date
) -> tuple[date, str, str | None]:
    size, sha256, inputs = _decoded(store, day, store.read(layout.shard_index(day)), read_footer)
    _check_size(store, sizes, day, size)
    return day, sha256, inputs


def _decoded(store: Store, day: date, data: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(data)
    except DamagedFileError as error:
        path = layout.shard_index(day)
        raise DamagedFileError(_again(store.locate(path), day, error)) from error


def _check_size(store: Store, sizes: dict[int, dict[str, int]], day: date, expected: int) -> None:
    path = layout.shard(day)
    size = sizes[day.year].get(path.rsplit("/", 1)[1])
    if size != expected:
        why = f"it has {size} bytes, but its index says {expected}"
        raise DamagedFileError(_again(store.locate(path), day, why))


def archive_hosts(store: Store, days: Sequence[date]) -> frozenset[str]:
    """Return the hosts in the ledgers of the first, middle and last day.

    The days may have been fetched from roots other than those in the settings.
    """
    hosts: set[str | None] = set()
    for day in {days[0], days[len(days) // 2], days[-1]}:
        for instrument in INSTRUMENTS:
            with contextlib.suppress(DamagedFileError):  # `verify_store` reports the damage
                rows = StoredDay(store, day).ledger(instrument) or ()
                hosts |= {urlsplit(row.url).hostname for row in rows if row.url}
    return frozenset(filter(None, hosts))


def damaged(store: Store, day: date, why: object) -> DamagedFileError:
    """Create the error for a shard that does not match its index."""
    store.suspect(layout.shard(day))
    return DamagedFileError(_again(store.locate(layout.shard(day)), day, why))


def _again(location: str, day: date, why: object) -> str:
    return f"{location} is damaged: {why}; materialize shards of {day} again"


def common_normalization(store: Store, days: Sequence[BuiltDay]) -> tuple[Normalization, bytes]:
    """Return the normalization of all days, and the bytes of its file.

    Raises
    ------
    NormalizationError
        If the days have different normalizations. The message lists the days and says what to do.
    DamagedFileError
        If the days differ in pixel type or resolution, or if the file has a different version.
    MissingInputError
        If the file is missing.
    """
    current = current_normalization(store)
    in_force = None if current is None else current.version
    versions = _groups(days, lambda day: day.facts.normalization_version)
    if len(versions) > 1:
        keep = in_force if in_force in versions else next(iter(versions))
        stale = sorted(day for version in versions if version != keep for day in versions[version])
        listed = "; ".join(f"{version}: {list_days(group)}" for version, group in versions.items())
        raise NormalizationError(
            f"the shards were normalized with different constants ({listed}). "
            + (
                f"Materialize shards of {list_days(stale)} again with the current constants, {keep}"
                if keep == in_force
                else "None of these are current: materialize shards of all these days again"
            )
        )
    kinds = _groups((day for day in days if day.pixels), lambda day: day.pixels)
    if len(kinds) > 1:
        listed = "; ".join(f"{kind}: {list_days(group)}" for kind, group in kinds.items())
        raise DamagedFileError(
            f"the shards differ in pixel type or resolution ({listed}): choose one, and "
            "materialize the shards of the other days again"
        )
    version = next(iter(versions))
    path = layout.normalization(version)
    data = store.read_if_exists(path)
    if data is None:
        raise MissingInputError(
            f"{store.locate(path)}, which the shards were normalized with, is missing: restore it, "
            "or materialize normalization_stats and then these shards again"
        )
    normalization = from_json(data)
    if normalization.version != version:
        raise DamagedFileError(
            f"{store.locate(path)} contains the constants of version {normalization.version}"
        )
    return normalization, data


def _groups(days: Iterable[BuiltDay], key: Callable[[BuiltDay], K]) -> dict[K, list[date]]:
    """Group days by a property, with the most frequent value first."""
    groups: dict[K, list[date]] = {}
    for day in days:
        groups.setdefault(key(day), []).append(day.day)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def complete_rows(table: pa.Table, channels: Sequence[str]) -> pa.Table:
    """Return the rows of these channels, for the samples that have all of them."""
    wanted = pa.array([name in set(channels) for name in table["channel"].to_pylist()], pa.bool_())
    rows = table.filter(wanted)
    slots = rows["slot"].to_numpy()
    _, place, counts = np.unique(slots, return_inverse=True, return_counts=True)
    return rows.filter(pa.array((counts == len(channels))[place], pa.bool_()))
