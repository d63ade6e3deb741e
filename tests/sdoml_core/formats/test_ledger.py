"""Ledgers and frame tables: exact round trips, stable bytes, and rejection of invalid tables."""

import io
import re
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdoml_core.errors import DamagedFileError
from sdoml_core.formats import ledger
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow

SLOT = datetime(2024, 3, 8, 0, 15, tzinfo=UTC)
OK = RawRow(
    SLOT,
    "AIA_0193",
    "ok",
    file="AIA20240308_0014_0193.fits",
    url="http://archive/AIA20240308_0014_0193.fits",
    bytes=1_105_920,
    sha256="ab" * 32,
    observed=datetime(2024, 3, 8, 0, 14, 4, 843_000, tzinfo=UTC),
    exposure=1.99,
    quality=1 << 30,
    rsun_obs=966.2,
)
MISSING = RawRow(SLOT, "AIA_1700", "missing", reason="00:14 not in the archive")


def test_rows_round_trip_exactly() -> None:
    assert RAW_LEDGER.decode(RAW_LEDGER.encode([OK, MISSING])) == [OK, MISSING]
    row = FrameRow(SLOT, "HMI_M", "ok", row=3, mean=0.1, crc32=2**32 - 1)
    assert FRAME_TABLE.decode(FRAME_TABLE.encode([row])) == [row]
    assert FRAME_TABLE.decode(FRAME_TABLE.encode([])) == []


def test_bytes_do_not_depend_on_row_order() -> None:
    assert RAW_LEDGER.encode([OK, MISSING]) == RAW_LEDGER.encode([MISSING, OK])


@pytest.mark.parametrize("table", [RAW_LEDGER, FRAME_TABLE])
def test_every_field_has_a_column_with_a_description(table: object) -> None:
    assert [c.name for c in table.columns] == [f.name for f in fields(table.row)]  # type: ignore[attr-defined]
    assert all(column.description for column in table.columns)  # type: ignore[attr-defined]


def _with(**columns: list[object]) -> bytes:
    table = pq.read_table(io.BytesIO(RAW_LEDGER.encode([OK])))
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        table = table.set_column(index, name, pa.array(values))
    # Add a valid checksum, so that the reader goes on to check the content.
    checksum = ledger._checksum(table.to_pydict())
    table = table.replace_schema_metadata(table.schema.metadata | {ledger._CHECKSUM: checksum})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def _with_another_checksum() -> bytes:
    table = pq.read_table(io.BytesIO(RAW_LEDGER.encode([OK])))
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(table.schema.metadata | {ledger._CHECKSUM: b"0"}), sink
    )
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", ""),
        (b"PAR1", ""),
        (RAW_LEDGER.encode([OK])[:-20], ""),
        (FRAME_TABLE.encode([]), ""),
        (_with(status=["splendid"]), "unknown status 'splendid'"),
        (_with(slot=[None]), "a row has no slot or channel"),
        (_with(channel=pa.array([None], pa.string())), "a row has no slot or channel"),
        (_with(bytes=["many"]), ""),
        (_with_another_checksum(), "its checksum is wrong"),
    ],
    ids=[
        "empty",
        "magic only",
        "truncated",
        "other table",
        "status",
        "no slot",
        "no channel",
        "type",
        "checksum",
    ],
)
def test_invalid_ledgers_are_rejected(data: bytes, reason: str) -> None:
    with pytest.raises(DamagedFileError, match=f"unreadable raw ledger: .*{re.escape(reason)}"):
        RAW_LEDGER.decode(data)


@pytest.mark.parametrize(
    ("table", "row"), [(RAW_LEDGER, OK), (FRAME_TABLE, FrameRow(SLOT, "HMI_M", "ok"))]
)
def test_optional_columns_may_be_missing(table: Any, row: RawRow | FrameRow) -> None:
    assert table.decode(_older(table, row)) == [row]


def test_missing_required_column_is_rejected() -> None:
    table = pq.read_table(io.BytesIO(RAW_LEDGER.encode([OK]))).drop_columns(["sha256"])
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(DamagedFileError, match="sha256"):
        RAW_LEDGER.decode(sink.getvalue())


def _older(table: Any, row: RawRow | FrameRow) -> bytes:
    """Return a table without its optional columns, as an earlier version wrote it."""
    older = replace(table, columns=tuple(c for c in table.columns if not c.optional))
    content = pq.read_table(io.BytesIO(table.encode([row]))).select([c.name for c in older.columns])
    checksum = ledger._checksum(content.to_pydict())
    content = content.replace_schema_metadata({ledger._CHECKSUM: checksum})
    sink = io.BytesIO()
    pq.write_table(content, sink)
    return sink.getvalue()


def test_day_of_version_0_1_0_is_read() -> None:
    """Version 0.1.0 wrote these files, before there were flags."""
    folder = Path(__file__).parents[2] / "data/0.1.0"
    raw = RAW_LEDGER.decode((folder / "raw/2024/03/08/aia.parquet").read_bytes())
    frames = FRAME_TABLE.decode((folder / "processed/2024/03/08/aia.parquet").read_bytes())
    assert len(raw) == len(frames) > 0
    assert {row.flags for row in raw} == {row.flags for row in frames} == {None}
    assert {row.status for row in frames} == {"ok"}
