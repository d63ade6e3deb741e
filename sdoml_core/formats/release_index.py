"""The index of a release: one row per sample, merged from the indexes of its shards.

Each channel has a struct column, so readers load only the fields that they need. Six thousand
shards can therefore be opened in a fraction of a second.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.formats.index import (
    BRIGHTNESS,
    ENCODING,
    FACTS,
    INDEX_SCHEMA,
    MEASURES,
    Index,
    with_optional,
)
from sdoml_core.formats.parquet import (
    FORMAT_VERSION,
    index_metadata,
    open_parquet,
    parquet_writer,
    read_columns,
    timestamps,
)

FRAME_FIELDS: Final = [
    *(INDEX_SCHEMA.field(name) for name in ("offset", "size", "data_offset", "crc32")),
    *FACTS,
    *MEASURES,
]
"""Fields that every channel's struct column has. `frame_fields` adds the optional ones."""


def frame_fields(*, compact: bool, bright: bool) -> list[pa.Field]:
    """Return the fields of a channel's struct column, all nullable.

    Parameters
    ----------
    compact
        Whether the shards are compact.
    bright
        Whether any shard has the `BRIGHTNESS` fields.
    """
    optional = BRIGHTNESS if bright else []
    sizes = [field for field in ENCODING if field.name == "data_size"] if compact else []
    fields = (*FRAME_FIELDS, *optional, *sizes)
    return [field.with_nullable(True) for field in fields]  # noqa: FBT003


def release_inputs(data: bytes | BinaryIO) -> str | None:
    """Return the recorded fingerprint of a release's inputs, or None if none was recorded.

    Raises
    ------
    DamagedFileError
        If the bytes are not the index of a release.
    """
    return index_metadata(open_parquet(data).schema_arrow, kind="release").get("sdoml.inputs")


def release_shards(data: bytes | BinaryIO) -> dict[str, int]:
    """Return the size of each shard in bytes, by shard name, from the index of a release.

    Raises
    ------
    DamagedFileError
        If the bytes are not the index of a release.
    """
    facts = index_metadata(open_parquet(data).schema_arrow, kind="release")
    try:
        return {str(name): int(size) for name, size, _ in json.loads(facts["sdoml.shards"])}
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedFileError(f"the release index has no valid list of shards: {error}") from error


_CONSTANTS: Final = ["constant", "transform", "step"]
"""Columns with one value per channel. The step occurs only in compact shards."""

GROUP_SAMPLES: Final = 1 << 14
"""Number of samples in one row group. Writing needs memory for about two groups,
regardless of the range."""

_PARTS: Final = 256
"""Number of tables to collect before they are joined. A small table takes about 40 KB."""

_FRAMES: Final = 1 << 15
"""Number of frames to collect before they are joined to samples, which take less memory."""


@dataclass(frozen=True, slots=True)
class ShardFacts:
    """Properties of a shard that the index of a release records."""

    shard: str
    """File name of the shard."""

    bytes: int
    sha256: str
    normalization_version: str
    frames: Mapping[str, int]
    """Number of frames of each channel."""

    constants: Mapping[str, Mapping[str, Any]]
    """Constant, transform and step of each channel. The step is None for npy."""

    dtype: str | None
    """Pixel type; None for a shard without frames."""

    resolution: int | None
    encoding: CompactEncoding | None
    """None for npy, and for a shard without frames."""

    bright: bool
    """Whether the index has the `BRIGHTNESS` columns."""

    first: np.datetime64 | None
    """Slot of the first sample."""

    last: np.datetime64 | None


def release_days(data: bytes | BinaryIO) -> dict[str, set[date]]:
    """Return the days that have samples in each shard, from the index of a release.

    Raises
    ------
    DamagedFileError
        If the bytes are not the index of a release.
    """
    file = open_parquet(data)
    index_metadata(file.schema_arrow, kind="release")
    table = read_columns(file, ["slot", "shard"])
    days = timestamps(table.column("slot")).astype("datetime64[D]").tolist()
    found: dict[str, set[date]] = {}
    for shard, day in zip(table.column("shard").to_pylist(), days, strict=True):
        found.setdefault(shard, set()).add(day)
    return found


def shard_facts(index: Index) -> ShardFacts:
    """Summarize the index of a shard.

    Raises
    ------
    DamagedFileError
        If the frames differ in dtype or resolution, or if frames of one channel have different
        constants.
    """
    table = with_optional(index.table)
    channels = table.column("channel").combine_chunks().dictionary_encode()
    names = channels.dictionary.to_pylist()
    codes = channels.indices.to_numpy()
    constants = {}
    for code, name in enumerate(names):
        mine = table.select(_CONSTANTS).take(np.flatnonzero(codes == code))
        constants[name] = {
            key: _only(mine.column(key), f"the {key} of {name}", index.shard) for key in _CONSTANTS
        }
    slots = timestamps(table.column("slot"))
    return ShardFacts(
        shard=index.shard,
        bytes=index.shard_bytes,
        sha256=index.shard_sha256,
        normalization_version=index.normalization_version,
        frames=dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True)),
        constants=constants,
        dtype=_only(table.column("dtype"), "dtype", index.shard),
        resolution=_only(table.column("resolution"), "resolution", index.shard),
        encoding=_only(table.column("encoding"), "encoding", index.shard),
        bright=any(table.column(field.name).null_count < len(table) for field in BRIGHTNESS),
        first=slots.min() if slots.size else None,
        last=slots.max() if slots.size else None,
    )


def consolidate(indexes: Iterable[Index], *, inputs: str | None = None) -> bytes:
    """Merge the indexes of shards into the index of a release. See `write_release_index`.

    Parameters
    ----------
    indexes
        Indexes whose `Index.shard` is the file name in the release. They may be empty.
    inputs
        Fingerprint of the inputs of the release, to record in the index.
    """
    by_name = {index.shard: index for index in indexes}
    sink = io.BytesIO()
    facts = [shard_facts(index) for index in by_name.values()]
    write_release_index(sink, facts, by_name.__getitem__, inputs=inputs)
    return sink.getvalue()


def release_schema(facts: Iterable[ShardFacts], *, inputs: str | None = None) -> pa.Schema:
    """Return the schema of the index of a release, with its metadata.

    Parameters
    ----------
    facts
        Properties of each shard.
    inputs
        Fingerprint of the inputs of the release, to record in the index.

    Raises
    ------
    NormalizationError
        If the shards were normalized with different constants.
    DamagedFileError
        If the shards differ in dtype or resolution.
    """
    facts = sorted(facts, key=lambda one: one.shard)
    channels = [name for name in CHANNELS if any(name in one.frames for one in facts)]
    compact = any(one.encoding for one in facts)
    fields = frame_fields(compact=compact, bright=any(one.bright for one in facts))
    return pa.schema(
        [
            INDEX_SCHEMA.field("slot").with_nullable(True),  # noqa: FBT003
            pa.field("shard", pa.dictionary(pa.int32(), pa.string())),
            *(pa.field(name, pa.struct(fields)) for name in channels),
        ],
        metadata=_metadata(facts, channels, inputs),
    )


def write_release_index(
    sink: BinaryIO,
    facts: Iterable[ShardFacts],
    read: Callable[[str], Index | pa.Table],
    *,
    inputs: str | None = None,
) -> None:
    """Write the index of a release shard by shard, with one row per sample.

    The columns are ``slot``, ``shard`` and, for each channel that occurs in any shard, a struct of
    `FRAME_FIELDS`. The struct is null if the sample does not have the channel. The schema metadata
    contains the version of the normalization and, as JSON, the dtype, the resolution, the constants
    of each channel, and the size and hash of each shard. For compact shards, it also contains the
    encoding and the step of each channel.

    Parameters
    ----------
    sink
        File to write to.
    facts
        Properties of each shard.
    read
        Called with the name of a shard, once per shard, in the order of the first slots. It returns
        the index of the shard, or its rows in an earlier index of the same `release_schema`, with
        all columns except ``shard``.
    inputs
        Fingerprint of the inputs of the release, to record in the index.

    Raises
    ------
    NormalizationError
        If the shards were normalized with different constants.
    DamagedFileError
        If the shards differ in dtype or resolution, or if two shards contain the same sample.
    """
    facts = sorted(facts, key=lambda one: one.shard)
    names = [one.shard for one in facts]
    schema = release_schema(facts, inputs=inputs)
    channels = len(schema.names) - 2
    filled = sorted(
        (one for one in facts if one.first is not None), key=lambda one: (one.first, one.shard)
    )
    code = {name: number for number, name in enumerate(names)}
    samples = _Samples(names, schema)
    with parquet_writer(sink, schema) as writer:
        for number, one in enumerate(filled):
            samples.add(read(one.shard), code[one.shard])
            after = filled[number + 1].first if number + 1 < len(filled) else None
            if after is None or samples.rows >= GROUP_SAMPLES * channels:
                for group in samples.groups(before=after):
                    writer.write_table(group)
                # Otherwise Arrow keeps the memory of several groups.
                pa.default_memory_pool().release_unused()
        if not filled:
            writer.write_table(schema.empty_table())


class _Samples:
    """Collects the samples of shards, and divides them into row groups in chronological order."""

    def __init__(self, names: Sequence[str], schema: pa.Schema) -> None:
        self._names = names
        self._schema = schema
        self._columns = schema.remove(schema.get_field_index("shard")).remove_metadata()
        self._frames: list[tuple[pa.Table, int]] = []
        self._ready: list[tuple[pa.Table, NDArray[np.int32]]] = []
        self.rows = 0
        """Approximate number of frames that have not been returned as groups yet."""

    def add(self, part: Index | pa.Table, code: int) -> None:
        """Add the samples of a shard, from its index or from rows of a release index."""
        if isinstance(part, Index):
            self._frames.append((with_optional(part.table), code))
            self.rows += len(part.table)
        else:
            self._ready.append((part, np.full(len(part), code, np.int32)))
            self.rows += len(part) * (len(self._columns) - 1)
        frames = sum(len(table) for table, _ in self._frames)
        if frames >= _FRAMES or len(self._frames) >= _PARTS:
            self._join()
        if len(self._ready) >= _PARTS:
            table, owner = self._collected()
            self._ready = [(table.combine_chunks(), owner)]

    def groups(self, *, before: np.datetime64 | None) -> Iterator[pa.Table]:
        """Yield complete groups of samples. At the end, yield all remaining samples.

        Samples at or after ``before`` are kept, because the next shards may have earlier samples.
        """
        table, owner = self._collected()
        times = timestamps(table.column("slot"))
        # Shards are read in order of their first slot, so that samples can be sorted by time.
        if np.any(times[1:] <= times[:-1]):
            order = np.argsort(times, kind="stable")
            table, owner, times = table.take(order), owner[order], times[order]
            if np.any(same := times[1:] == times[:-1]):
                at = int(np.argmax(same))
                self._refuse(times[at], owner[at], owner[at + 1])
        ready = len(times) if before is None else int(np.searchsorted(times, before))
        ends = list(range(GROUP_SAMPLES, ready + 1, GROUP_SAMPLES))
        if before is None and ready % GROUP_SAMPLES:
            ends.append(ready)
        # The parts of each column are released as soon as the column has been copied.
        columns = table.columns
        self._ready = []
        del table
        start = 0
        for end in ends:
            shard = pa.DictionaryArray.from_arrays(
                owner[start:end], pa.array(self._names, pa.string())
            )
            group = []
            for number, column in enumerate(columns):
                group.append(column.slice(0, end - start).combine_chunks())
                columns[number] = column.slice(end - start)
            yield pa.table([group[0], shard, *group[1:]], schema=self._schema)
            start = end
        self._ready = [(pa.table(columns, schema=self._columns), owner[start:])]
        self.rows = len(owner[start:]) * (len(self._columns) - 1)

    def _collected(self) -> tuple[pa.Table, NDArray[np.int32]]:
        """Return all collected samples, in no particular order, and the shard of each sample."""
        if self._frames:
            self._join()
        table = pa.concat_tables([part for part, _ in self._ready])
        return table, np.concatenate([owner for _, owner in self._ready])

    def _join(self) -> None:
        """Join the frames of the added indexes to samples."""
        table = pa.concat_tables([part for part, _ in self._frames])
        owner = np.repeat(
            np.array([code for _, code in self._frames], np.int32),
            [len(part) for part, _ in self._frames],
        )
        slots = timestamps(table.column("slot"))
        times, first, rows = np.unique(slots, return_index=True, return_inverse=True)
        if np.any(differs := owner[first][rows] != owner):
            at = int(np.argmax(differs))
            self._refuse(times[rows[at]], owner[first][rows][at], owner[at])
        channel = table.column("channel").combine_chunks().dictionary_encode()
        codes = channel.indices.to_numpy()
        code = {name: number for number, name in enumerate(channel.dictionary.to_pylist())}
        columns: list[pa.Array] = [pa.array(times).cast(self._columns.field("slot").type)]
        for name in self._columns.names[1:]:
            mine = np.flatnonzero(codes == code.get(name, -1))
            place = np.full(len(times), -1)
            place[rows[mine]] = mine
            columns.append(_struct(table, place, list(self._columns.field(name).type)))
        self._ready.append((pa.table(columns, schema=self._columns), owner[first]))
        self._frames = []

    def _refuse(self, slot: np.datetime64, one: int, other: int) -> NoReturn:
        first, second = sorted((self._names[one], self._names[other]))
        raise DamagedFileError(
            f"sample {slot.astype('datetime64[s]')} is in both {first} and {second}"
        )


def _metadata(
    facts: Sequence[ShardFacts], channels: Sequence[str], inputs: str | None
) -> dict[str, str]:
    """Check that the shards belong together, and return the schema metadata."""
    version = check_versions((one.normalization_version, one.shard) for one in facts)
    pixels = {
        name: only_value(
            _first_with((getattr(one, name), one.shard) for one in facts if one.frames), name
        )
        for name in ("dtype", "resolution", "encoding")
    }
    compact = pixels["encoding"] is not None
    if not compact:
        del pixels["encoding"]  # npy: keep the bytes of earlier versions
    constants = {
        name: {
            key: only_value(
                _first_with(
                    (one.constants[name][key], one.shard) for one in facts if name in one.frames
                ),
                f"the {key} of {name}",
            )
            for key in (_CONSTANTS if compact else _CONSTANTS[:2])
        }
        for name in channels
    }
    metadata = {
        "sdoml.format": FORMAT_VERSION,
        "sdoml.kind": "release",
        "sdoml.normalization": version,
        "sdoml.pixels": json.dumps(pixels, sort_keys=True),
        "sdoml.channels": json.dumps(constants, sort_keys=True),
        "sdoml.shards": json.dumps([[one.shard, one.bytes, one.sha256] for one in facts]),
    }
    if inputs is not None:
        metadata["sdoml.inputs"] = inputs
    return metadata


def _struct(
    table: pa.Table, place: NDArray[np.int64], fields: Sequence[pa.Field]
) -> pa.StructArray:
    """Build the column of a channel: row `place[i]` of the long table for sample i, null for −1."""
    missing = place < 0
    take = pa.array(place, mask=missing)
    leaves = [table.column(field.name).take(take).combine_chunks() for field in fields]
    return pa.StructArray.from_arrays(leaves, fields=fields, mask=pa.array(missing))


def _only(column: pa.ChunkedArray, what: str, shard: str) -> Any:
    """Return the value that all rows of a shard share, or None if the shard has no rows."""
    values = column.combine_chunks().unique().to_pylist()
    return only_value(dict.fromkeys(values, shard), what)


def _first_with(values: Iterable[tuple[Any, str]]) -> dict[Any, str]:
    """Map each value to the first shard in which it occurs."""
    first: dict[Any, str] = {}
    for value, shard in values:
        first.setdefault(value, shard)
    return first


def only_value(values: Mapping[Any, str], what: str) -> Any:
    """Return the value that all rows share, or None if there are no rows.

    Parameters
    ----------
    values
        Each distinct value, with a shard in which it occurs.
    what
        Name of the value, for the message.

    Raises
    ------
    DamagedFileError
        If there are several values. The message names a shard for each value.
    """
    if len(values) > 1:
        listed = ", ".join(f"{value} ({shard})" for value, shard in values.items())
        raise DamagedFileError(f"shards differ in {what}: {listed}")
    return next(iter(values), None)


def check_versions(versions: Iterable[tuple[str, str]]) -> str:
    """Return the version that all (version, shard) pairs share, or "" if there are no pairs."""
    first: dict[str, str] = {}
    for version, shard in versions:
        first.setdefault(version, shard)
    found = sorted(first)
    if len(found) > 1:
        raise NormalizationError(
            f"the shards were normalized with different constants: versions {', '.join(found)} "
            f"(first in {', '.join(first[version] for version in found)}); "
            "materialize all shards again with one version"
        )
    return found[0] if found else ""
