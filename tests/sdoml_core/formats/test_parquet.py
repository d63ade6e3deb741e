"""Reading Parquet data from bytes, with Arrow's threads."""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.parquet import arrow_file, open_parquet, read_columns, write_parquet

TABLE = pa.table({"slot": range(1000), "name": [f"{i:04d}.tar" for i in range(1000)]})


def test_arrow_threads_do_not_hold_python_buffers() -> None:
    """If a thread releases a Python buffer while Python is exiting, the process aborts."""
    data = write_parquet(TABLE)
    before = sys.getrefcount(data)
    file = arrow_file(data)
    views = [file.read_buffer(100), pq.ParquetFile(file)]
    assert sys.getrefcount(data) == before
    assert len(views[0]) == 100


def test_table_is_read_from_bytes() -> None:
    data = write_parquet(TABLE)
    assert read_columns(open_parquet(data)).equals(TABLE)
    assert read_columns(open_parquet(data), ["name"]).equals(TABLE.select(["name"]))


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" * 100])
def test_bytes_that_are_not_parquet_are_rejected(data: bytes) -> None:
    with pytest.raises(DamagedFileError, match="not a Parquet file"):
        open_parquet(data)
