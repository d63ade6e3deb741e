"""Find the built days of a release and check that they belong together.

Everything that can be checked without reading pixels is checked here, before an earlier release is
changed: each shard has an index and its recorded size, and all shards share one normalization and
one pixel type.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TypeVar

import pyarrow as pa

from sdoml_core.errors import DamagedFileError, MissingInputError, NormalizationError
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.formats.index import Index, decode_index
from sdoml_core.normalization.constants import Normalization, from_json
from sdoml_dagster.days import DayRange, list_days
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class BuiltDay:
    """One day's shard, as described by its index."""

    day: date
    index: Index
    whole: bool = True
    """Whether `index` has all rows of the day's shard."""

    def with_rows(self, table: pa.Table) -> "BuiltDay":
        """Return the same day with some of its rows."""
        whole = table.num_rows == self.index.table.num_rows
        return replace(self, index=replace(self.index, table=table), whole=whole)

    @property
    def pixels(self) -> str | None:
        """Type and resolution of the frames; None for a day without frames."""
        table = self.index.table
        if not table.num_rows:
            return None
        kind = self.encoding or table["dtype"][0].as_py()
        return f"{kind} at {table['resolution'][0].as_py()}×"

    @property
    def encoding(self) -> CompactEncoding | None:
        """Compact encoding of the frames; None for npy and for a day without frames."""
        table = self.index.table
        if not table.num_rows:
            return None
        encoding: CompactEncoding | None = table["encoding"][0].as_py()
        return encoding


def built_days(store: Store, *, days: DayRange, threads: int) -> list[BuiltDay]:
    """Return the days of a range that have a shard, in order.

    Raises
    ------
    MissingInputError
        If no day has a shard, or a shard has no index.
    DamagedFileError
        If an index cannot be read, or the size of a shard differs from its index.
    """
    found = {day: parts for day, parts in layout.shard_files(store).items() if day in days}
    if not found:
        raise MissingInputError(f"{store.url} has no shard{days}: run build_shards first")
    halves = sorted(day for day, parts in found.items() if len(parts) < 2)
    if halves:
        raise MissingInputError(
            f"{store.url} has only one of shard and index for {list_days(halves)}: "
            "run build_shards for these days again"
        )
    sizes = {
        year: store.sizes(layout.year_of_shards(year))
        for year in sorted({day.year for day in found})
    }
    read = partial(_read_day, store, sizes)
    return list(ordered_map(read, sorted(found), threads=threads, name="index"))


def _read_day(store: Store, sizes: dict[int, dict[str, int]], day: date) -> BuiltDay:
    path = layout.shard(day)
    try:
        index = decode_index(store.read(layout.shard_index(day)))
    except DamagedFileError as error:
        raise DamagedFileError(
            f"{_again(store.locate(layout.shard_index(day)), day)}: {error}"
        ) from error
    size = sizes[day.year].get(path.rsplit("/", 1)[1])
    if size != index.shard_bytes:
        raise DamagedFileError(
            f"{_again(store.locate(path), day)}: it has {size} bytes, its index says "
            f"{index.shard_bytes}"
        )
    return BuiltDay(day, index)


def damaged(store: Store, day: date, why: object) -> DamagedFileError:
    """Create the error for a shard that does not match its index."""
    return DamagedFileError(f"{_again(store.locate(layout.shard(day)), day)}: {why}")


def _again(location: str, day: date) -> str:
    return f"{location} is damaged, materialize shards of {day} again"


def common_normalization(store: Store, days: Sequence[BuiltDay]) -> tuple[Normalization, bytes]:
    """Return the normalization that all days share, and the bytes of its file.

    Raises
    ------
    NormalizationError
        If the days have different normalizations. The message names the days and the remedy.
    DamagedFileError
        If the days differ in pixel type or resolution, or the file has another version.
    MissingInputError
        If the file is missing.
    """
    current = current_normalization(store)
    in_force = None if current is None else current.version
    versions = _groups(days, lambda day: day.index.normalization_version)
    if len(versions) > 1:
        keep = in_force if in_force in versions else next(iter(versions))
        stale = sorted(day for version in versions if version != keep for day in versions[version])
        listed = "; ".join(f"{version}: {list_days(group)}" for version, group in versions.items())
        raise NormalizationError(
            f"the shards were normalized with different constants ({listed}). "
            + (
                f"Materialize shards of {list_days(stale)} again, with {keep}, which is current"
                if keep == in_force
                else "None of them is current: materialize shards of all these days again"
            )
        )
    kinds = _groups((day for day in days if day.pixels), lambda day: day.pixels)
    if len(kinds) > 1:
        listed = "; ".join(f"{kind}: {list_days(group)}" for kind, group in kinds.items())
        raise DamagedFileError(
            f"the shards differ in type or resolution ({listed}): materialize one group again"
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
        raise DamagedFileError(f"{store.locate(path)} holds version {normalization.version}")
    return normalization, data


def _groups(days: Iterable[BuiltDay], key: Callable[[BuiltDay], K]) -> dict[K, list[date]]:
    """Group days by a property, with the most frequent value first."""
    groups: dict[K, list[date]] = {}
    for day in days:
        groups.setdefault(key(day), []).append(day.day)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def complete_rows(table: pa.Table, channels: Sequence[str]) -> pa.Table:
    """Return the rows of the samples that have all of the channels, without other channels."""
    wanted = set(channels)
    rows = table.filter(
        pa.array([name in wanted for name in table["channel"].to_pylist()], pa.bool_())
    )
    slots = rows["slot"].to_pylist()
    counts = Counter(slots)
    return rows.filter(pa.array([counts[slot] == len(wanted) for slot in slots], pa.bool_()))
