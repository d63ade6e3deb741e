"""Combine several shard folders, such as releases with different years or channels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.formats.parquet import FORMAT_VERSION, timestamps, write_parquet
from sdoml_core.loader.storage.catalog import OWNER, Catalog
from sdoml_core.loader.storage.local import Files, RangeFiles

_REMEDY: Final = "open them as separate datasets, or rebuild them with the same settings"


class SeveralFiles:
    """Byte ranges of the shards of several folders.

    Parameters
    ----------
    parts
        The folders.
    places
        For each shard in the merged catalog: the index of its folder, and its name in that folder.
    """

    def __init__(self, parts: Sequence[RangeFiles], places: Mapping[str, tuple[int, str]]):
        self.root = ", ".join(part.root for part in parts)
        self._parts = list(parts)
        self._places = dict(places)

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Fill buffers in order with the bytes of a file, starting at `start`."""
        part, there = self._places[name]
        self._parts[part].read_into(there, start, buffers, size=size, tag=tag)


@dataclass(frozen=True, slots=True)
class _Folder:
    """A shard folder and its catalog."""

    files: Files
    catalog: Catalog
    table: pa.Table
    """The index, without missing shards."""

    owner: NDArray[np.int64]
    """Position of each row's shard in the list of the shards of all folders."""

    names: tuple[str, ...]
    """Unique name of each shard. Shards of different releases may have the same file name."""


def merge(folders: Sequence[tuple[Files, Catalog]]) -> tuple[SeveralFiles, Catalog]:
    """Merge folders into one catalog.

    A sample contains the frames of all folders at its time. Folders with different times are
    therefore concatenated, and folders with different channels are joined. If a time is in only one
    folder, the channels of the other folders are missing from the sample.

    Parameters
    ----------
    folders
        Each folder and its catalog.

    Raises
    ------
    DatasetError
        If a frame is in more than one folder, or the folders differ in dtype, encoding or
        resolution.
    NormalizationError
        If a channel was normalized with different constants.
    """
    parts = []
    places: dict[str, tuple[int, str]] = {}
    for number, (files, catalog) in enumerate(folders):
        names = tuple(f"{number}-{name.replace('/', '-')}" for name in catalog.shards)
        present = ~np.isin(catalog.shard, catalog.absent)
        owner = catalog.shard[present].astype(np.int64) + len(places)
        parts.append(_Folder(files, catalog, catalog.table(), owner, names))
        places |= {name: (number, there) for name, there in zip(names, catalog.shards, strict=True)}
    used = [part for part in parts if len(part.table)] or parts[:1]
    metadata = _check_compatible(used)
    metadata["sdoml.shards"] = json.dumps(
        [
            [name, int(size), tag]
            for part in parts
            for name, size, tag in zip(
                part.names, part.catalog.shard_bytes, part.catalog.shard_tags, strict=True
            )
        ]
    )
    names = tuple(name for part in parts for name in part.names)
    table = _join(used, names, places).replace_schema_metadata(metadata)
    merged = Catalog(write_parquet(table))
    return SeveralFiles([files for files, _ in folders], places), merged


def _check_compatible(parts: Sequence[_Folder]) -> dict[str, str]:
    """Check that folders are compatible, and return the metadata of the merged index."""
    first, root = parts[0].catalog, parts[0].files.root
    for part in parts[1:]:
        for what in ("encoding", "dtype", "resolution"):
            one, other = getattr(first, what), getattr(part.catalog, what)
            if one != other:
                raise DatasetError(
                    f"the folders differ in {what}: {one or 'npy'} in {root}, {other or 'npy'} in "
                    f"{part.files.root}; {_REMEDY}"
                )
    constants: dict[str, Any] = {}
    for channel in CHANNELS:
        having = [part for part in parts if channel in part.catalog.channels]
        for part in having[1:]:
            # Each dataset has its own version, so folders with different channels may have
            # different versions.
            for what in ("normalization_version", "constants"):
                one, other = (getattr(each.catalog, what) for each in (having[0], part))
                if what == "constants":
                    one, other = one[channel], other[channel]
                if one != other:
                    raise NormalizationError(
                        f"{channel} was normalized with different constants: "
                        f"{one or 'unknown'} in {having[0].files.root}, {other or 'unknown'} in "
                        f"{part.files.root}; rebuild one dataset with the constants "
                        "of the other"
                    )
        if having:
            constants[channel] = having[0].catalog.constants[channel]
    pixels = {"dtype": first.dtype.name, "resolution": first.resolution}
    versions = dict.fromkeys(part.catalog.normalization_version for part in parts)
    return {
        "sdoml.format": FORMAT_VERSION,
        "sdoml.kind": "release",
        "sdoml.normalization": ", ".join(filter(None, versions)),
        "sdoml.pixels": json.dumps(
            pixels if first.encoding is None else pixels | {"encoding": first.encoding}
        ),
        "sdoml.channels": json.dumps(constants, sort_keys=True),
    }


def _join(
    parts: Sequence[_Folder], names: Sequence[str], places: Mapping[str, tuple[int, str]]
) -> pa.Table:
    """Return one row per time with the frames of all folders."""
    rows = pa.concat_tables(
        [part.table.drop_columns(["shard"]) for part in parts], promote_options="permissive"
    )
    owner = np.concatenate([part.owner for part in parts])
    times = timestamps(rows.column("slot"))
    slots, first, slot_of = np.unique(times, return_index=True, return_inverse=True)
    shard = owner[first]
    columns: dict[str, pa.Array] = {}
    owners: dict[str, NDArray[np.int64]] = {}
    for channel in (name for name in CHANNELS if name in rows.column_names):
        column = rows.column(channel)
        present = np.flatnonzero(column.is_valid().to_numpy())
        counts = np.bincount(slot_of[present], minlength=len(slots))
        if counts.max(initial=0) > 1:
            twice = present[slot_of[present] == np.argmax(counts > 1)]
            found = [places[names[owner[row]]] for row in twice[:2]]
            roots = [part.files.root for part in parts]
            listed = " and ".join(f"{name} in {roots[number]}" for number, name in found)
            raise DatasetError(
                f"{channel} at {slots[np.argmax(counts > 1)]} is in both {listed}; "
                "pass folders that have no frames in common"
            )
        source = np.full(len(slots), -1)
        source[slot_of[present]] = present
        columns[channel] = column.take(pa.array(source, mask=source < 0)).combine_chunks()
        owners[channel] = np.where(source < 0, shard, owner[source])
    if any(np.any(each != shard) for each in owners.values()):
        columns = {name: _with_owner(column, owners[name]) for name, column in columns.items()}
    codes = pa.DictionaryArray.from_arrays(shard.astype(np.int32), pa.array(names, pa.string()))
    slot = rows.column("slot").take(pa.array(first)).combine_chunks()
    return pa.table({"slot": slot, "shard": codes} | columns)


def _with_owner(column: pa.StructArray, owner: NDArray[np.int64]) -> pa.StructArray:
    """Return the column of a channel, with the position of each frame's shard added."""
    fields = [*column.type, pa.field(OWNER, pa.int64())]
    leaves = [*column.flatten(), pa.array(owner)]
    return pa.StructArray.from_arrays(leaves, fields=fields, mask=column.is_null())
