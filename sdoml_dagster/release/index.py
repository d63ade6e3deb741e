"""Write the index of a release, and read its samples.

Rows of unchanged shards are copied from the index of the last build, which is much faster than
merging the daily indexes again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdoml_core.formats.index import Index
from sdoml_core.formats.parquet import timestamps
from sdoml_core.formats.release_index import ShardFacts, release_schema, write_release_index
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.shards import ShardMaker


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Slot, shard and channels of each sample, in chronological order."""

    slots: NDArray[np.datetime64]
    owners: NDArray[np.int64]
    """Index of the shard in `names`."""
    channels: NDArray[np.bool_]
    """Shape (samples, channels). True if the sample has the channel."""
    names: Sequence[str]
    """Names of the shards."""

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.slots)

    @property
    def first(self) -> datetime:
        """Slot of the first sample."""
        return utc(self.slots[0])

    @property
    def last(self) -> datetime:
        """Slot of the last sample."""
        return utc(self.slots[-1])

    @property
    def complete(self) -> int:
        """Number of samples with all channels."""
        return int(self.channels.all(axis=1).sum())

    @property
    def example(self) -> int:
        """Index of the middle sample among those with the most channels."""
        counts = self.channels.sum(axis=1)
        candidates = np.flatnonzero(counts == counts.max())
        return int(candidates[len(candidates) // 2])

    def shard(self, number: int) -> str:
        """Return the name of the shard that contains a sample."""
        return str(self.names[self.owners[number]])

    def by_shard(self) -> dict[str, int]:
        """Return the number of samples in each shard."""
        numbers = np.bincount(self.owners, minlength=len(self.names))
        return dict(zip(self.names, numbers.tolist(), strict=True))

    def uniform_start(self, shard: str) -> bool:
        """Return whether the first five samples of a shard have the same channels.

        Hugging Face's builder requires this for the first shard.
        """
        first = self.channels[self.owners == self.names.index(shard)][:5]
        return bool((first == first[0]).all())


class IndexRows:
    """Rows of an earlier build's index, by shard. Keeps one row group in memory.

    Parameters
    ----------
    path
        Local copy of the index.
    """

    def __init__(self, path: Path) -> None:
        self._file = pq.ParquetFile(path)
        self.schema: pa.Schema = self._file.schema_arrow
        groups = []
        for number in range(self._file.num_row_groups):
            shards = self._file.read_row_group(number, columns=["shard"]).column(0).combine_chunks()
            groups.append(shards.indices.to_numpy())
        # The dictionary of each row group has the names of all shards.
        names = shards.dictionary.to_pylist()
        codes = np.concatenate(groups)
        self._order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(names)))
        self._ranges = dict(zip(names, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        self._starts = np.cumsum([0, *map(len, groups)])
        self._number = -1
        self._group = pa.table({})

    def of(self, shard: str) -> pa.Table:
        """Return the rows of a shard, without the column ``shard``."""
        start, end = self._ranges[shard]
        rows = self._order[start:end]
        parts = []
        while len(rows):
            number = int(np.searchsorted(self._starts, rows[0], side="right")) - 1
            inside = int(np.searchsorted(rows, self._starts[number + 1]))
            mine, rows = rows[:inside] - self._starts[number], rows[inside:]
            group = self._read(number)
            if mine[-1] - mine[0] == len(mine) - 1:
                parts.append(group.slice(mine[0], len(mine)))
            else:
                parts.append(group.take(mine))
        return pa.concat_tables(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read(self, number: int) -> pa.Table:
        if number != self._number:
            self._group = pa.table({})
            # Otherwise Arrow keeps the memory of earlier row groups.
            pa.default_memory_pool().release_unused()
            # Reading one column at a time needs less memory.
            names = [name for name in self.schema.names if name != "shard"]
            columns = [self._file.read_row_group(number, columns=[n]).column(0) for n in names]
            self._group = pa.table(columns, names=names)
            self._number = number
        return self._group


@dataclass(frozen=True, slots=True)
class KeptRows:
    """Rows of the last build that are still valid."""

    rows: IndexRows | None
    """None if there is no intact index."""

    shards: Mapping[str, ShardFacts]
    """Properties of the last build's shards, by `ShardMaker.fingerprint`."""

    def of(self, fingerprint: str, schema: pa.Schema) -> pa.Table | None:
        """Return the rows of the shard with these inputs, or None if none have this schema."""
        facts = self.shards.get(fingerprint)
        if self.rows is None or facts is None or not self.rows.schema.equals(schema):
            return None
        return self.rows.of(facts.shard)


def utc(slot: np.datetime64) -> datetime:
    """Convert a slot to a timezone-aware datetime."""
    moment: datetime = slot.astype("datetime64[s]").item()
    return moment.replace(tzinfo=UTC)


def write_index(
    path: Path,
    *,
    maker: ShardMaker,
    shards: Sequence[ShardFacts],
    inputs: str,
    kept: KeptRows,
    report: Callable[[str], None],
) -> None:
    """Write the index of the release to a local file.

    Parameters
    ----------
    path
        Local file.
    maker
        Provides the indexes of the shards.
    shards
        Properties of all shards.
    inputs
        Fingerprint of the inputs of the release.
    kept
        Rows of the last build.
    report
        Receives progress lines.
    """
    progress = Progress("release, writing the index", len(shards), report, unit="shards")
    schema = release_schema(shards)

    def read(name: str) -> Index | pa.Table:
        rows = kept.of(maker.fingerprint(name), schema)
        progress.step("ok")
        return maker.index(name) if rows is None else rows

    with path.open("wb") as file:
        write_release_index(file, shards, read, inputs=inputs)
    # Arrow would keep the memory of several row groups.
    pa.default_memory_pool().release_unused()


def read_samples(path: Path) -> Samples:
    """Read the slot, shard and channels of all samples in a release."""
    slots, owners, channels = [], [], []
    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name not in {"slot", "shard"}]
        columns = ["slot", "shard", *(f"{name}.crc32" for name in names)]
        for number in range(file.num_row_groups):
            group = file.read_row_group(number, columns=columns).combine_chunks()
            slots.append(timestamps(group.column("slot")))
            owner = group.column("shard").chunk(0)
            owners.append(owner.indices.to_numpy().astype(np.int64))
            found = [group.column(name).is_valid().to_numpy() for name in names]
            channels.append(np.column_stack(found))
    # The dictionary of each row group has the names of all shards.
    shards = owner.dictionary.to_pylist()
    return Samples(np.concatenate(slots), np.concatenate(owners), np.concatenate(channels), shards)


def read_sample(path: Path, number: int) -> dict[str, dict[str, Any]]:
    """Read the index entry of each frame in one sample of a release, by channel."""
    frames = {}
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if number < rows:
                break
            number -= rows
        for name in file.schema_arrow.names:
            # Read one column at a time, because each column of the group takes several megabytes.
            column = file.read_row_group(group, columns=[name]).column(0)
            frames[name] = column[number].as_py()
    return {name: frame for name, frame in frames.items() if isinstance(frame, dict)}
