"""Indexes: the position of each frame in its shard, and the metadata of the frame.

A daily index has one row per member and is stored next to its shard. It is Parquet, so pandas,
polars and duckdb can read it. The index of a release is `sdoml_core.formats.release_index`.
This module opens no files.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
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
DTYPES: Final = ("float32", "float16")

FACTS: Final = [
    pa.field("observed", pa.timestamp("ms", "UTC")),  # true time of the frame
    pa.field("exposure", pa.float64()),  # s
    pa.field("quality", pa.uint32()),
    pa.field("rsun_obs", pa.float64()),  # arcsec
    pa.field("degradation", pa.float64()),
]
"""Recorded metadata of a frame, in both kinds of indexes. Null if unknown."""

MEASURES: Final = [
    pa.field("flags", pa.uint32()),  # see sdoml_core.frames.flags
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
"""Measures of a frame, in both kinds of indexes. Indexes of earlier versions do not have these
columns; they are read as null."""

INDEX_SCHEMA: Final = pa.schema(
    [
        pa.field("slot", pa.timestamp("ms", "UTC"), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),  # first byte of the .npy in the shard
        pa.field("size", pa.int64(), nullable=False),  # bytes of the .npy
        pa.field("data_offset", pa.int64(), nullable=False),  # first pixel in the shard
        pa.field("crc32", pa.uint32(), nullable=False),  # CRC-32 of the pixel bytes
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("resolution", pa.int32(), nullable=False),  # pixels along each side
        *FACTS,
        pa.field("constant", pa.float64()),  # c of the transform
        pa.field("transform", pa.string()),  # sqrt: y = √(min(x, c)/c); linear: y = x/c
        *MEASURES,
    ]
)
"""Columns of a daily index."""

_REQUIRED = [field for field in INDEX_SCHEMA if field not in MEASURES]


@dataclass(frozen=True)
class Index:
    """A daily index: the table and the shard that it describes."""

    table: pa.Table
    """Columns as in `INDEX_SCHEMA`, sorted by slot and channel."""

    shard: str
    """File name of the shard."""

    shard_bytes: int
    shard_sha256: str
    normalization_version: str

    inputs: str | None = None
    """Fingerprint of the inputs of the shard. None if it was not recorded."""

    def frames(self) -> set[tuple[datetime, str]]:
        """Slot and channel of each frame in the shard."""
        slots, channels = self.table["slot"].to_pylist(), self.table["channel"].to_pylist()
        return set(zip(slots, channels, strict=True))


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
        Table from `sdoml_core.formats.shard.ShardWriter.close`. It has no rows for an empty day.
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
    return write_parquet(table.cast(INDEX_SCHEMA).replace_schema_metadata(facts))


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
        raise DamagedFileError(f"not a shard index: it has no column {', '.join(absent)}")
    present = [field for field in INDEX_SCHEMA if field.name in schema.names]
    if not schema.equals(pa.schema(present)):
        raise DamagedFileError("not a shard index: its columns have the wrong types")
    table = with_measures(read_columns(file).replace_schema_metadata(None))
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
        raise DamagedFileError(f"index cannot be read: {error}") from error
    _check_rows(index)
    return index


def with_measures(table: pa.Table) -> pa.Table:
    """Add the columns that a table of an earlier version does not have, as null."""
    for field in MEASURES:
        if field.name not in table.schema.names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(INDEX_SCHEMA.names)


def _check_rows(index: Index) -> None:
    """Reject rows that point outside the shard or contradict themselves."""
    check_shard_name(index.shard)
    if not 0 <= index.shard_bytes <= MAX_SHARD_BYTES:
        raise DamagedFileError(
            f"index of {index.shard} states an impossible size of {index.shard_bytes} bytes"
        )
    table = index.table
    slots = timestamps(table.column("slot"))
    keys = np.datetime_as_string(slots.astype("datetime64[s]"), unit="m")
    channels = table.column("channel").to_pylist()
    for member, key, channel in zip(
        table.column("member").to_pylist(), keys.tolist(), channels, strict=True
    ):
        expected = f"{key[:4]}/{key[5:7]}/{key[8:10]}/{key[11:13]}{key[14:16]}.{channel}.npy"
        if not MEMBER_NAME.fullmatch(member) or channel not in CHANNELS:
            raise DamagedFileError(f"index of {index.shard} has an invalid member name {member!r}")
        if member.upper() != expected.upper():
            raise DamagedFileError(f"index of {index.shard} has {member!r} instead of {expected}")
    if len(set(zip(slots.tolist(), channels, strict=True))) != len(channels):
        raise DamagedFileError(f"index of {index.shard} lists a frame twice")
    if table.num_rows == 0:
        return
    offset, size, start = (
        table.column(name).to_numpy() for name in ("offset", "size", "data_offset")
    )
    sides = table.column("resolution").to_numpy().astype(np.int64)
    dtypes = table.column("dtype").to_pylist()
    if not set(dtypes) <= set(DTYPES) or sides.min() < 1 or sides.max() > 65535:
        raise DamagedFileError(f"index of {index.shard} has an unknown dtype or resolution")
    item = np.array([np.dtype(dtype).itemsize for dtype in dtypes])
    fits = (
        (offset >= 512)
        & (start > offset)
        & (size <= index.shard_bytes)
        & (offset <= index.shard_bytes - size)
        & (start - offset + sides * sides * item == size)
    )
    if not fits.all():
        row = int(np.argmin(fits))
        raise DamagedFileError(
            f"index of {index.shard}: {table.column('member')[row]} is outside the shard "
            f"of {index.shard_bytes} bytes, or its size does not match its pixels"
        )
