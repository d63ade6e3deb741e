"""Shard indexes: the position of each frame in the shard, and its metadata.

A daily index has one row per member and is stored next to its shard. It is a Parquet file, so
pandas, polars and duckdb can read it. `sdoml_core.formats.release_index` defines the index of
a release. This module opens no files.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.compact import HEADER_BYTES, RECORD, TABLE_BYTES, TILES, check_step
from sdoml_core.formats.encoding import COMPACT, COMPACT_DTYPE, DTYPES
from sdoml_core.formats.members import MEMBER_NAME
from sdoml_core.formats.parquet import (
    FORMAT_VERSION,
    MAX_ROWS_OF_A_DAY,
    check_shard_name,
    index_metadata,
    open_parquet,
    read_columns,
    timestamps,
    write_parquet,
)

MAX_SHARD_BYTES: Final = 1 << 62

FACTS: Final = [
    pa.field("observed", pa.timestamp("ms", "UTC")),  # true time of the frame
    pa.field("exposure", pa.float64()),  # s
    pa.field("quality", pa.uint32()),
    pa.field("rsun_obs", pa.float64()),  # arcsec
    pa.field("degradation", pa.float64()),
]
"""Recorded metadata of a frame, in both kinds of index. Null if unknown."""

MEASURES: Final = [
    pa.field("flags", pa.uint32()),  # bits of sdoml_core.frames.flags
    pa.field("missing", pa.int64()),  # pixels of the raw frame without data
    pa.field("center_x", pa.float64()),  # measured, pixels right of the middle
    pa.field("center_y", pa.float64()),  # measured, pixels below the middle
    pa.field("radius", pa.float64()),  # measured, pixels
    pa.field("visible", pa.float64()),  # fraction of the disk that is not dark
    pa.field("brightness", pa.float64()),  # ratio to the level of the neighboring frames
    pa.field("similarity", pa.float64()),  # correlation with the neighboring frames
    pa.field("sky", pa.float64()),  # ratio of the sky to the bright quarter of the disk
    pa.field("holes", pa.binary()),  # pixels without data; see sdoml_core.formats.holes
]
"""Measures of a frame, in both kinds of index. Indexes of earlier versions do not have these
columns, which are then read as null."""

BRIGHTNESS: Final = [
    pa.field("mean", pa.float32()),  # mean pixel value of the processed frame
    pa.field("saturated", pa.float32()),  # fraction of pixels that are 1 after normalization
]
"""Brightness of a frame, in both kinds of index, for light curves. Indexes of earlier versions do
not have these columns, which are then read as null."""

ENCODING: Final = [
    pa.field("encoding", pa.string()),  # compact or compact-fine; null for npy
    pa.field("step", pa.float64()),  # quantization step: y = step times the stored integer
    pa.field("data_size", pa.int64()),  # bytes of the data; null for npy
]
"""Columns that only the indexes of compact shards have. For npy shards, they are read as null."""

INDEX_SCHEMA: Final = pa.schema(
    [
        pa.field("slot", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # first byte of the member
        pa.field("size", pa.int64(), nullable=False),  # bytes of the member
        pa.field("data_offset", pa.int64(), nullable=False),  # first byte of the data
        pa.field("crc32", pa.uint32(), nullable=False),  # CRC-32 of the data
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("resolution", pa.int32(), nullable=False),  # pixels along each side
        *FACTS,
        pa.field("constant", pa.float64()),  # c of the transform
        pa.field("transform", pa.string()),  # sqrt: y = √(min(x, c)/c); linear: y = x/c
        *MEASURES,
        *BRIGHTNESS,
        *ENCODING,
    ]
)
"""Columns of a daily index. A frame's data are its pixels (npy), or the tile table and the
compressed tiles (compact)."""

_OPTIONAL: Final = (*MEASURES, *BRIGHTNESS, *ENCODING)
_REQUIRED = [field for field in INDEX_SCHEMA if field not in _OPTIONAL]


@dataclass(frozen=True)
class Index:
    """A daily index: its table, and properties of the shard."""

    table: pa.Table
    """Columns as in `INDEX_SCHEMA`, sorted by slot and channel."""

    shard: str
    """File name of the shard."""

    shard_bytes: int
    shard_sha256: str
    normalization_version: str

    inputs: str | None = None
    """Fingerprint of the inputs of the shard. None if it was not recorded."""


def encode_index(
    table: pa.Table,
    *,
    shard: str,
    shard_bytes: int,
    shard_sha256: str,
    normalization_version: str,
    inputs: str | None = None,
) -> bytes:
    """Encode a daily index. The same arguments give the same bytes.

    Parameters
    ----------
    table
        Table from `sdoml_core.formats.shard.ShardWriter.close`. For an empty day, it has no rows.
    shard
        File name of the shard, relative to the folder of shards.
    shard_bytes, shard_sha256
        Size and hash of the whole shard.
    normalization_version
        Version of the constants used to normalize the pixels.
    inputs
        Fingerprint of the inputs of the shard, to record in the index.
    """
    facts = {
        "sdoml.format": FORMAT_VERSION,
        "sdoml.kind": "shard",
        "sdoml.shard": shard,
        "sdoml.shard_bytes": str(shard_bytes),
        "sdoml.shard_sha256": shard_sha256,
        "sdoml.normalization": normalization_version,
    }
    if inputs is not None:
        facts["sdoml.inputs"] = inputs
    table = with_optional(table).cast(INDEX_SCHEMA)
    if table["encoding"].null_count == len(table):  # npy: keep the schema of earlier versions
        table = table.drop_columns([field.name for field in ENCODING])
    if all(table[field.name].null_count == len(table) for field in BRIGHTNESS):
        table = table.drop_columns([field.name for field in BRIGHTNESS])
    return write_parquet(table.replace_schema_metadata(facts))


def decode_index(data: bytes) -> Index:
    """Decode and validate a daily index.

    Raises
    ------
    DamagedFileError
        If the bytes are not an index, or if a row has an invalid member name or position.
    """
    file = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY)
    facts = index_metadata(file.schema_arrow, kind="shard")
    schema = file.schema_arrow.remove_metadata()
    absent = [field.name for field in _REQUIRED if field.name not in schema.names]
    if absent:
        raise DamagedFileError(f"not a shard index: missing columns: {', '.join(absent)}")
    present = [field for field in INDEX_SCHEMA if field.name in schema.names]
    if not schema.equals(pa.schema(present)):
        raise DamagedFileError("not a shard index: its columns have the wrong types")
    table = with_optional(read_columns(file).replace_schema_metadata(None))
    try:
        table.validate(full=True)
        index = Index(
            table=table,
            shard=facts["sdoml.shard"],
            shard_bytes=int(facts["sdoml.shard_bytes"]),
            shard_sha256=facts["sdoml.shard_sha256"],
            normalization_version=facts["sdoml.normalization"],
            inputs=facts.get("sdoml.inputs"),
        )
    except (KeyError, ValueError, pa.ArrowException) as error:
        raise DamagedFileError(f"the index cannot be read: {error}") from error
    _check_rows(index)
    return index


def read_footer(data: bytes) -> tuple[int, str, str | None]:
    """Return the shard's size, SHA-256 and inputs from a daily index, without reading its rows.

    Raises
    ------
    DamagedFileError
        If the bytes are not an index.
    """
    file = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY)
    facts = index_metadata(file.schema_arrow, kind="shard")
    try:
        return (
            int(facts["sdoml.shard_bytes"]),
            facts["sdoml.shard_sha256"],
            facts.get("sdoml.inputs"),
        )
    except (KeyError, ValueError) as error:
        raise DamagedFileError(f"the index cannot be read: {error}") from error


def read_frames(data: bytes) -> set[tuple[datetime, str]]:
    """Return the slot and channel of each frame in a daily index, without reading other columns.

    Raises
    ------
    DamagedFileError
        If the bytes are not an index.
    """
    file = open_parquet(data, max_rows=MAX_ROWS_OF_A_DAY)
    index_metadata(file.schema_arrow, kind="shard")
    table = read_columns(file, ["slot", "channel"])
    return set(zip(table["slot"].to_pylist(), table["channel"].to_pylist(), strict=True))


def with_optional(table: pa.Table) -> pa.Table:
    """Add the columns that indexes of earlier versions or npy shards lack, filled with null."""
    for field in _OPTIONAL:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(INDEX_SCHEMA.names)


def _check_rows(index: Index) -> None:
    """Reject rows that point outside the shard or are inconsistent."""
    check_shard_name(index.shard)
    if not 0 <= index.shard_bytes <= MAX_SHARD_BYTES:
        raise DamagedFileError(
            f"the index of {index.shard} states an impossible shard size of "
            f"{index.shard_bytes} bytes"
        )
    table = index.table
    slots = timestamps(table.column("slot"))
    keys = np.datetime_as_string(slots.astype("datetime64[s]"), unit="m")
    channels = table.column("channel").to_pylist()
    encodings = table.column("encoding").to_pylist()
    for member, key, channel, encoding in zip(
        table.column("member").to_pylist(), keys.tolist(), channels, encodings, strict=True
    ):
        suffix = "npy" if encoding is None else "fits"
        expected = f"{key[:4]}/{key[5:7]}/{key[8:10]}/{key[11:13]}{key[14:16]}.{channel}.{suffix}"
        if not MEMBER_NAME.fullmatch(member) or channel not in CHANNELS:
            raise DamagedFileError(
                f"the index of {index.shard} has an invalid member name {member!r}"
            )
        if member.upper() != expected.upper():
            raise DamagedFileError(
                f"the index of {index.shard} has the member {member!r} instead of {expected}"
            )
    if len(set(zip(slots.tolist(), channels, strict=True))) != len(channels):
        raise DamagedFileError(f"the index of {index.shard} lists a frame twice")
    if table.num_rows == 0:
        return
    offset, size, start = (
        table.column(name).to_numpy() for name in ("offset", "size", "data_offset")
    )
    sides = table.column("resolution").to_numpy().astype(np.int64)
    if sides.min() < 1 or sides.max() > 65535:
        raise DamagedFileError(f"the index of {index.shard} has an unknown dtype or resolution")
    compact = np.array([encoding is not None for encoding in encodings])
    if compact.any() and not compact.all():
        raise DamagedFileError(f"the index of {index.shard} has frames with different encodings")
    inside = (
        (offset >= 512)
        & (start > offset)
        & (size <= index.shard_bytes)
        & (offset <= index.shard_bytes - size)
    )
    layout = _compact_layout if compact.any() else _npy_layout
    fits = inside & layout(index, start - offset, size, sides)
    if not fits.all():
        row = int(np.argmin(fits))
        raise DamagedFileError(
            f"the index of {index.shard} is damaged: {table.column('member')[row]} is outside the "
            f"shard of {index.shard_bytes} bytes, or its size does not match its pixels"
        )


def _npy_layout(
    index: Index, lead: NDArray[np.int64], size: NDArray[np.int64], sides: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return a mask of the npy members whose size matches their pixels."""
    dtypes = index.table.column("dtype").to_pylist()
    others = any(index.table[name].null_count < len(dtypes) for name in ("step", "data_size"))
    if not set(dtypes) <= set(DTYPES) or others:
        raise DamagedFileError(f"the index of {index.shard} has an unknown dtype or resolution")
    item = np.array([np.dtype(dtype).itemsize for dtype in dtypes])
    matches: NDArray[np.bool_] = lead + sides * sides * item == size
    return matches


def _compact_layout(
    index: Index, lead: NDArray[np.int64], size: NDArray[np.int64], sides: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return a mask of the compact members whose size matches their data."""
    table = index.table
    try:
        for step in table["step"].unique().to_pylist():
            check_step(step or 0)
    except ValueError as error:
        raise DamagedFileError(f"the index of {index.shard} is damaged: {error}") from error
    if (
        not set(table["encoding"].unique().to_pylist()) <= set(COMPACT)
        or set(table["dtype"].unique().to_pylist()) != {COMPACT_DTYPE}
        or np.any(sides % TILES)
        or table["data_size"].null_count
    ):
        raise DamagedFileError(f"the index of {index.shard} has an unknown encoding, dtype or size")
    used = table["data_size"].to_numpy()
    matches: NDArray[np.bool_] = (
        (used > TABLE_BYTES) & (lead == HEADER_BYTES) & (size == lead + used + -used % RECORD)
    )
    return matches
