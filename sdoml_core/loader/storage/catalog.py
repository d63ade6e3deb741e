"""The catalog: an in-memory table of the samples in a shard folder.

All kinds of folders (a release, daily shards with their indexes, or only tar files) are represented
by a release index. Only the required columns are read.
"""

import copy
import json
from collections.abc import Collection, Sequence
from itertools import accumulate, pairwise, starmap
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.compact import HEADER_BYTES, TABLE_BYTES, check_step
from sdoml_core.formats.encoding import COMPACT, COMPACT_DTYPE, DTYPES
from sdoml_core.formats.index import BRIGHTNESS, FACTS, MEASURES
from sdoml_core.formats.parquet import (
    check_shard_name,
    index_metadata,
    integers,
    open_parquet,
    read_columns,
    timestamps,
)

SOURCES: Final = "sdoml.sources"
"""Metadata key of generated indexes: names, sizes and modification times by shard."""

OWNER: Final = "shard"
"""Field of each frame in merged indexes: the position of its shard in the list of shards. Without
it, all frames of a sample are in one shard."""


class Catalog:
    """The samples in a shard folder, in chronological order.

    Parameters
    ----------
    source
        Path or bytes of an index that `sdoml_core.formats.release_index.consolidate` wrote. The
        file is kept open, so the catalog does not change if the file is replaced.

    Raises
    ------
    DamagedFileError
        If the bytes are not such an index, or if the index lists frames outside the shards.
    """

    shards: tuple[str, ...]
    """Names of the shards, relative to the folder."""
    shard_bytes: NDArray[np.int64]
    shard_tags: tuple[str, ...]
    """Fingerprint of the contents of each shard: its SHA-256, or its entry in the list of files."""
    absent: NDArray[np.int64]
    """Positions in `shards` of the shards whose frames are treated as missing."""
    slots: NDArray[np.datetime64]
    """Time of each sample, as datetime64[s] in UTC; shape (samples,)."""
    shard: NDArray[np.int32]
    """Position in `shards` of each sample's shard; shape (samples,). If folders were merged, the
    frames of a sample may be in several shards; see `owners`."""
    channels: tuple[str, ...]
    """All channels in the index."""
    dtype: np.dtype[Any]
    """Type of the stored pixels; int32 for compact shards."""
    encoding: str | None
    """``compact`` or ``compact-fine``; None for npy."""
    resolution: int
    constants: dict[str, dict[str, Any]]
    """``constant`` and ``transform`` of each channel; for compact shards, also the quantization
    ``step``. None if unknown."""
    normalization_version: str

    def __init__(self, source: str | bytes):
        self._source = _hold(source) if isinstance(source, str) else source
        self.absent = np.zeros(0, np.int64)
        file = open_parquet(self._source)
        schema = file.schema_arrow  # each access to this property parses the schema again
        facts = index_metadata(schema, kind="release")
        self.channels = tuple(name for name in CHANNELS if name in schema.names)
        try:
            pixels = json.loads(facts["sdoml.pixels"])
            shards = json.loads(facts["sdoml.shards"])
            self.encoding = pixels.get("encoding")
            keys = ("constant", "transform", *(["step"] if self.encoding else []))
            self.constants = {
                name: {key: fact[key] for key in keys}
                for name, fact in json.loads(facts["sdoml.channels"]).items()
            }
            self.normalization_version = facts["sdoml.normalization"]
            self.shards = tuple(check_shard_name(shard[0]) for shard in shards)
            listed = json.loads(facts.get(SOURCES, "{}"))
            self.shard_tags = tuple(str(digest or listed.get(name)) for name, _, digest in shards)
            self.shard_bytes = np.array([int(shard[1]) for shard in shards], np.int64)
            dtype = str(pixels["dtype"] or DTYPES[0])
            self.resolution = int(pixels["resolution"] or 0)
            for fact in self.constants.values():
                check_step(float(fact.get("step", 1)))
        except (
            AttributeError,
            KeyError,
            IndexError,
            OverflowError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise DamagedFileError(f"the release index has invalid metadata: {error}") from error
        known = (
            dtype in DTYPES
            if self.encoding is None
            else dtype == COMPACT_DTYPE and self.encoding in COMPACT
        )
        if not known or not 0 <= self.resolution <= 65535:
            raise DamagedFileError(
                f"the index has an invalid dtype or resolution: {dtype}, {self.resolution}"
            )
        self.dtype = np.dtype(dtype)
        self._read_samples(file)

    def _read_samples(self, file: pq.ParquetFile) -> None:
        table = read_columns(file, ["slot", "shard"])
        try:
            self.slots = timestamps(table.column("slot"))
            owners = table.column("shard").unify_dictionaries()
            names = owners.chunk(0).dictionary.to_pylist() if owners.num_chunks else []
            number = {name: i for i, name in enumerate(self.shards)}
            # The last entry represents null. The dictionary may also contain shards without
            # samples, which are not in `shards`.
            lookup = np.array([number.get(name, -1) for name in [*names, None]], np.int32)
            indices = pa.chunked_array([chunk.indices for chunk in owners.chunks], pa.int32())
            self.shard = lookup[integers(indices, np.int32, missing=-1)]
        except (
            KeyError,
            AttributeError,
            IndexError,
            TypeError,
            ValueError,
            pa.ArrowException,
        ) as error:
            raise DamagedFileError(f"the release index is damaged: {error}") from error
        if np.any(self.shard < 0):
            raise DamagedFileError("the release index refers to a shard that it does not list")
        if np.any(np.diff(self.slots.astype(np.int64)) <= 0):
            raise DamagedFileError("the release index is not sorted by time")

    def __len__(self) -> int:
        return len(self.slots)

    def __getstate__(self) -> dict[str, Any]:
        source = self._source
        if not isinstance(source, bytes):  # another process cannot share the open file
            source = source.read_at(source.size(), 0)
        return self.__dict__ | {"_source": source}

    def _reopen(self) -> pq.ParquetFile:
        """Reopen the index to read more columns.

        Raises
        ------
        DamagedFileError
            If the file was overwritten in place. Replacing the file is safe.
        """
        try:
            file = open_parquet(self._source)
            slots = timestamps(read_columns(file, ["slot"]).column("slot"))
            same = np.array_equal(slots, self.slots)
        except DamagedFileError:
            same = False
        if not same:
            raise DamagedFileError("the index has been overwritten since the dataset was opened")
        return file

    def table(self) -> pa.Table:
        """Return the complete index, without the samples of missing shards."""
        table = read_columns(self._reopen())
        if len(self.absent):
            table = table.filter(pa.array(~np.isin(self.shard, self.absent)))
        return table

    def without(self, shards: Collection[str]) -> Self:
        """Return a copy in which all frames of the given shards are marked as missing."""
        part = copy.copy(self)
        part.absent = np.flatnonzero(np.isin(self.shards, list(shards)))
        return part

    @property
    def frame_bytes(self) -> int:
        """Size of one frame's pixels in memory, in bytes; for npy, also its size in a shard."""
        return self.resolution**2 * self.dtype.itemsize

    def offsets(self, channels: Sequence[str]) -> NDArray[np.int64]:
        """Return the position of each frame's data in its shard, −1 for missing frames.

        Parameters
        ----------
        channels
            Channel names. All must be in the index.

        Returns
        -------
        Array of shape (samples, len(channels)).
        """
        offsets = np.empty((len(self), len(channels)), np.int64)
        file = open_parquet(self._source)
        for column, name in enumerate(channels):
            offsets[:, column] = _leaf(file, name, "data_offset", missing=-1)
        offsets[np.isin(self.shard, self.absent)] = -1
        sizes = self.frame_bytes if self.encoding is None else self.data_sizes(channels)
        owners = self.owners(channels)
        last = self.shard_bytes[self.shard[:, None] if owners is None else owners] - sizes
        if np.any((offsets > last) & (offsets >= 0)) or np.any((offsets < 512) & (offsets != -1)):
            raise DamagedFileError("the release index lists a frame that is outside its shard")
        return offsets

    def owners(self, channels: Sequence[str]) -> NDArray[np.int32] | None:
        """Return the position in `shards` of each frame's shard, in the shape of `offsets`.

        Return None if all frames of each sample are in the shard that `shard` lists.

        Raises
        ------
        DamagedFileError
            If a position is invalid.
        """
        file = open_parquet(self._source)
        if not any(_has_leaf(file, name, OWNER) for name in channels):
            return None
        owners = np.empty((len(self), len(channels)), np.int32)
        for column, name in enumerate(channels):
            owners[:, column] = _leaf(file, name, OWNER, missing=0)
        if np.any((owners < 0) | (owners >= len(self.shards))):
            raise DamagedFileError("the index refers to a shard that it does not list")
        return owners

    def data_sizes(self, channels: Sequence[str]) -> NDArray[np.int64]:
        """Return the data size of each frame in compact shards, in the shape of `offsets`.

        Raises
        ------
        DamagedFileError
            If a size is invalid.
        """
        file = self._reopen()
        missing = TABLE_BYTES + 1
        columns = [_leaf(file, name, "data_size", missing=missing) for name in channels]
        sizes = np.stack(columns, axis=1)
        # RICE_1 data are never much larger than the pixels themselves.
        if np.any(sizes <= TABLE_BYTES) or np.any(sizes > 2 * self.frame_bytes + HEADER_BYTES):
            raise DamagedFileError("the release index has invalid frame sizes")
        return sizes

    def checksums(self, channels: Sequence[str]) -> NDArray[np.int64]:
        """Return the CRC-32 of each frame, −1 if unknown, in the shape of `offsets`."""
        file = self._reopen()
        columns = [_leaf(file, name, "crc32", missing=-1) for name in channels]
        return np.stack(columns, axis=1)

    def flags(self, channels: Sequence[str]) -> NDArray[np.int64]:
        """Return the flags of each frame as an integer, 0 if unknown, in the shape of `offsets`."""
        file = self._reopen()
        columns = [
            _leaf(file, name, "flags", missing=0)
            if _has_leaf(file, name, "flags")
            else np.zeros(len(self), np.int64)
            for name in channels
        ]
        return np.stack(columns, axis=1)

    def row_groups(self) -> tuple[range, ...]:
        """Return the samples of each row group of the index, as ranges of rows."""
        facts = open_parquet(self._source).metadata
        sizes = [facts.row_group(group).num_rows for group in range(facts.num_row_groups)]
        return tuple(starmap(range, pairwise(accumulate(sizes, initial=0))))

    def facts(
        self,
        channels: Sequence[str],
        names: Collection[str] | None = None,
        *,
        group: int | None = None,
    ) -> dict[str, pa.Table]:
        """Return the metadata of each frame by channel.

        Values that are not in the index are null.

        Parameters
        ----------
        channels
            Channel names. All must be in the index.
        names
            Columns to read. Defaults to all columns, which is slow for a large index.
        group
            Index of the row group to read; see `row_groups`. Defaults to all row groups.
        """
        file = self._reopen()
        rows = len(self) if group is None else file.metadata.row_group(group).num_rows
        return {
            channel: pa.table(
                {
                    fact.name: _chunks(file, channel, fact.name, group)
                    if fact in FACTS or _has_leaf(file, channel, fact.name)
                    else pa.nulls(rows, fact.type)
                    for fact in (*FACTS, *MEASURES, *BRIGHTNESS)
                    if names is None or fact.name in names
                }
            )
            for channel in channels
        }


def _hold(path: str) -> pa.NativeFile:
    """Open a file for positioned reads, so that forked processes can share it."""
    try:
        return pa.OSFile(path)
    except OSError as error:
        raise DamagedFileError(f"the file cannot be opened: {error}") from error


def _has_leaf(file: pq.ParquetFile, channel: str, name: str) -> bool:
    """Check whether a channel has a field. Indexes of earlier versions may lack it."""
    kind = file.schema_arrow.field(channel).type
    return bool(pa.types.is_struct(kind)) and kind.get_field_index(name) >= 0


def _chunks(
    file: pq.ParquetFile, channel: str, name: str, group: int | None = None
) -> pa.ChunkedArray:
    """Return one field of a channel, with null for missing frames."""
    column = read_columns(file, [f"{channel}.{name}"], group)
    try:
        chunks = [chunk.flatten()[0] for chunk in column.column(channel).chunks]
        return pa.chunked_array(chunks, column.schema.field(channel).type.field(0).type)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFileError(f"the release index lacks {name} for {channel}") from error


def _leaf(file: pq.ParquetFile, channel: str, name: str, *, missing: int) -> NDArray[np.int64]:
    """Convert an integer field to NumPy, and replace null with a value."""
    leaf = _chunks(file, channel, name)
    if leaf.type not in {pa.int64(), pa.uint32()}:
        raise DamagedFileError(
            f"the release index is damaged: {name} has type {leaf.type}, not int64 or uint32"
        )
    return integers(leaf, np.int64 if leaf.type == pa.int64() else np.uint32, missing)
