"""The index of a release: one row per sample, merged from the indexes of its shards.

Each channel has a struct column, so readers load only the fields they need. This is why six
thousand shards open in a fraction of a second.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.formats.index import ENCODING, FACTS, INDEX_SCHEMA, MEASURES, Index, with_optional
from sdoml_core.formats.parquet import (
    FORMAT_VERSION,
    index_metadata,
    open_parquet,
    timestamps,
    write_parquet,
)

FRAME_FIELDS: Final = [
    *(INDEX_SCHEMA.field(name) for name in ("offset", "size", "data_offset", "crc32")),
    *FACTS,
    *MEASURES,
]
"""Fields of the struct column of each channel. Compact shards also have ``data_size``."""


_DATA_SIZE: Final = next(field for field in ENCODING if field.name == "data_size")


def release_inputs(data: bytes) -> str | None:
    """Return the recorded fingerprint of the inputs of a release, or None if there is none.

    Raises
    ------
    DamagedFileError
        If the bytes are not the index of a release.
    """
    return index_metadata(open_parquet(data).schema_arrow, kind="release").get("sdoml.inputs")


def release_shards(data: bytes) -> dict[str, int]:
    """Return the size of each shard in bytes by name, from the index of a release.

    Raises
    ------
    DamagedFileError
        If the bytes are not the index of a release.
    """
    facts = index_metadata(open_parquet(data).schema_arrow, kind="release")
    try:
        return {str(name): int(size) for name, size, _ in json.loads(facts["sdoml.shards"])}
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedFileError(f"index of a release without its shards: {error}") from error


def consolidate(indexes: Iterable[Index], *, inputs: str | None = None) -> bytes:
    """Merge the indexes of shards into the index of a release, one row per sample.

    Columns: ``slot``, ``shard`` and, for each channel that occurs anywhere, a struct of
    `FRAME_FIELDS` (null if the sample does not have the channel). The schema metadata has the
    normalization version and, as JSON, dtype and resolution, the constants of each channel and
    the size and hash of each shard. For compact shards it also has the encoding, and the step of
    each channel.

    Parameters
    ----------
    indexes
        Indexes whose `Index.shard` is the file name in the release. They may be empty.
    inputs
        Fingerprint of the inputs of the release, to record in the index.

    Raises
    ------
    NormalizationError
        If the shards were normalized with different constants.
    DamagedFileError
        If the shards differ in dtype or resolution, or contain a sample twice.
    """
    indexes = sorted(indexes, key=lambda index: index.shard)
    version = check_versions((index.normalization_version, index.shard) for index in indexes)
    tables = [with_optional(index.table) for index in indexes] or [INDEX_SCHEMA.empty_table()]
    table = pa.concat_tables(tables)
    owner = np.repeat(np.arange(len(tables)), [len(part) for part in tables])
    shards = [index.shard for index in indexes]
    pixels = {
        name: only_value(_by_shard(table.column(name), owner, shards), name)
        for name in ("dtype", "resolution", "encoding")
    }
    compact = pixels["encoding"] is not None
    if not compact:
        del pixels["encoding"]  # npy: the same bytes as before
    fields = [*FRAME_FIELDS, *([_DATA_SIZE] if compact else [])]

    # Shards are sorted by name; samples must be sorted by time.
    slots = timestamps(table.column("slot"))
    times, first, rows = np.unique(slots, return_index=True, return_inverse=True)
    if np.any(owner[first][rows] != owner):
        at = int(np.argmax(owner[first][rows] != owner))
        slot = times[rows[at]].astype("datetime64[s]")
        one, other = shards[owner[first][rows][at]], shards[owner[at]]
        raise DamagedFileError(f"sample {slot} is in both {one} and {other}")
    columns: dict[str, pa.Array] = {
        "slot": pa.array(times).cast(INDEX_SCHEMA.field("slot").type),
        "shard": pa.DictionaryArray.from_arrays(
            owner[first].astype(np.int32), pa.array([index.shard for index in indexes], pa.string())
        ),
    }
    channel = table.column("channel").combine_chunks().dictionary_encode()
    codes = {name: code for code, name in enumerate(channel.dictionary.to_pylist())}
    constants: dict[str, Any] = {}
    for name in CHANNELS:
        if name not in codes:
            continue
        mine = np.flatnonzero(channel.indices.to_numpy() == codes[name])
        place = np.full(len(times), -1)
        place[rows[mine]] = mine
        columns[name] = _struct(table, place, fields)
        constants[name] = {
            key: only_value(
                _by_shard(table.column(key).take(mine), owner[mine], shards), f"{key} of {name}"
            )
            for key in ("constant", "transform", *(["step"] if compact else []))
        }
    facts = {
        "sdoml.format": FORMAT_VERSION,
        "sdoml.kind": "release",
        "sdoml.normalization": version,
        "sdoml.pixels": json.dumps(pixels, sort_keys=True),
        "sdoml.channels": json.dumps(constants, sort_keys=True),
        "sdoml.shards": json.dumps(
            [[index.shard, index.shard_bytes, index.shard_sha256] for index in indexes]
        ),
    }
    if inputs is not None:
        facts["sdoml.inputs"] = inputs
    return write_parquet(pa.table(columns).replace_schema_metadata(facts))


def _struct(
    table: pa.Table, place: NDArray[np.int64], fields: Sequence[pa.Field]
) -> pa.StructArray:
    """Build a channel column: row `place[i]` of the long table for sample i, or null for −1."""
    missing = place < 0
    take = pa.array(place, mask=missing)
    leaves = [table.column(field.name).take(take).combine_chunks() for field in fields]
    fields = [field.with_nullable(True) for field in fields]  # noqa: FBT003
    return pa.StructArray.from_arrays(leaves, fields=fields, mask=pa.array(missing))


def _by_shard(
    column: pa.ChunkedArray, owner: NDArray[np.int64], shards: Sequence[str]
) -> dict[Any, str]:
    """Map each value of a column to the first shard that has it."""
    codes = column.combine_chunks().dictionary_encode()
    found, first = np.unique(codes.indices.to_numpy(zero_copy_only=False), return_index=True)
    values = codes.dictionary.to_pylist()
    return {
        None if np.isnan(code) else values[int(code)]: shards[owner[row]]
        for code, row in zip(found, first, strict=True)
    }


def only_value(values: Mapping[Any, str], what: str) -> Any:
    """Return the value that all rows share, or None without rows.

    Parameters
    ----------
    values
        Values, each with a shard that has it.
    what
        Name of the value, for the message.

    Raises
    ------
    DamagedFileError
        If there are several values. The message names a shard for each.
    """
    if len(values) > 1:
        listed = ", ".join(f"{value} ({shard})" for value, shard in values.items())
        raise DamagedFileError(f"shards differ in {what}: {listed}")
    return next(iter(values), None)


def check_versions(versions: Iterable[tuple[str, str]]) -> str:
    """Return the common version of all shards, given as (version, name). Empty without shards."""
    first: dict[str, str] = {}
    for version, shard in versions:
        first.setdefault(version, shard)
    found = sorted(first)
    if len(found) > 1:
        raise NormalizationError(
            f"the shards were normalized with different constants: versions {', '.join(found)} "
            f"(first in {', '.join(first[version] for version in found)}); "
            "materialize all shards again with one of them"
        )
    return found[0] if found else ""
