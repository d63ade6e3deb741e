"""Read and write indexes as Parquet bytes. All input is treated as untrusted."""

import io
import re
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError

FORMAT_VERSION: Final = "1"
SHARD_NAME: Final = re.compile(r"(?:[0-9]{4}/)?[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.tar")
"""Pattern of valid shard names: a file name, optionally below a folder named after a year."""

MAX_ROWS: Final = 20_000_000
MAX_ROWS_OF_A_DAY: Final = 100_000
"""Maximum number of rows in a ledger, frame table or daily index. A day with ten
channels and a cadence of 2 minutes has 7,200 rows."""

MAX_UNCOMPRESSED: Final = 4 << 30


def timestamps(column: pa.ChunkedArray) -> NDArray[np.datetime64]:
    """Convert times in ms to naive UTC datetime64[s]."""
    if column.type != pa.timestamp("ms", "UTC"):
        raise DamagedFileError(
            f"the times in the index have type {column.type}, not timestamp[ms, tz=UTC]"
        )
    return (integers(column, np.int64) // 1000).view("datetime64[s]")


def integers(
    column: pa.ChunkedArray, dtype: type[np.integer[Any]], missing: int = 0
) -> NDArray[np.int64]:
    """Convert an integer column to NumPy, and replace null with a value.

    pyarrow's own conversion would import pandas or pyarrow.compute, which takes half a second.
    """
    parts = [np.empty(0, np.int64)]
    for chunk in column.chunks:
        if len(chunk) == 0:
            continue
        validity, values = chunk.buffers()[-2:]
        part = np.frombuffer(values, dtype)[chunk.offset :][: len(chunk)].astype(np.int64)
        if chunk.null_count:
            bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
            part[bits[chunk.offset :][: len(chunk)] == 0] = missing
        parts.append(part)
    return np.concatenate(parts)


def check_shard_name(name: str) -> str:
    """Return a shard name. Raise an error if it is invalid, such as a path outside the folder."""
    if not SHARD_NAME.fullmatch(name):
        raise DamagedFileError(f"the index has an invalid shard name {name!r}")
    return name


def write_parquet(table: pa.Table) -> bytes:
    """Encode a table with checksums. The bytes are the same in every run."""
    sink = io.BytesIO()
    with parquet_writer(sink, table.schema) as writer:
        writer.write_table(table, row_group_size=1 << 20)
    return sink.getvalue()


def parquet_writer(sink: BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a Parquet writer with checksums. Each table that it writes becomes a row group."""
    return pq.ParquetWriter(
        sink, schema, compression="zstd", use_dictionary=True, write_page_checksum=True
    )


def arrow_file(data: bytes) -> pa.BufferReader:
    """Copy bytes into memory that Arrow owns, and open them as a file.

    Arrow's threads may still use a buffer shortly after the table has been read. If Python owns the
    buffer and exits at that moment, the process aborts.
    """
    sink = pa.BufferOutputStream()
    sink.write(data)
    return pa.BufferReader(sink.getvalue())


def open_parquet(
    data: bytes | str | BinaryIO | pa.NativeFile, *, max_rows: int = MAX_ROWS
) -> pq.ParquetFile:
    """Open a Parquet file. Reject it if the size in its footer is impossible."""
    try:
        source = arrow_file(data) if isinstance(data, bytes) else data
        file = pq.ParquetFile(source, page_checksum_verification=True)
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        volume = sum(group.total_byte_size for group in groups)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedFileError(f"not a Parquet file: {error}") from error
    if not 0 <= file.metadata.num_rows <= max_rows or not 0 <= volume <= MAX_UNCOMPRESSED:
        raise DamagedFileError(
            f"the table states an impossible size: {file.metadata.num_rows} rows, {volume} bytes"
        )
    return file


def read_columns(
    file: pq.ParquetFile, columns: list[str] | None = None, group: int | None = None
) -> pa.Table:
    """Read columns of a Parquet file, from one row group or from all row groups."""
    try:
        if group is not None:
            return file.read_row_group(group, columns=columns, use_threads=True)
        return file.read(columns=columns, use_threads=True)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedFileError(f"the table cannot be read: {error}") from error


def index_metadata(schema: pa.Schema, *, kind: str) -> dict[str, str]:
    """Return the schema metadata of an index, and check its format and kind."""
    try:
        facts = {
            key.decode(): value.decode()
            for key, value in (schema.metadata or {}).items()
            if key.startswith(b"sdoml.")
        }
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"the index has unreadable metadata: {error}") from error
    found = facts.get("sdoml.kind"), facts.get("sdoml.format")
    if found != (kind, FORMAT_VERSION):
        raise DamagedFileError(
            f"expected the index of a {kind} in format {FORMAT_VERSION}, "
            f"found kind {found[0]} in format {found[1]}"
        )
    return facts
