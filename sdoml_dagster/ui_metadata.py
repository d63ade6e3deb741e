"""What the UI shows of a run's outcome: numbers, tables and pictures as Dagster metadata."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_core.formats.ledger import STATUSES, FrameRow, RawRow, TableFormat

if TYPE_CHECKING:
    from PIL.Image import Image

LISTED_ROWS = 100
"""Rows of a table that the UI shows; ledgers and logs have them all."""


def column_schema(table: TableFormat[Any]) -> dg.TableSchema:
    """A ledger's columns for the catalog."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, column.type, description=column.description)
            for column in table.columns
        ]
    )


def picture_metadata(sheet: "Image | None", alt: str) -> dict[str, Any]:
    """A contact sheet that the UI shows; nothing where there is none."""
    from sdoml_dagster.previews import inline_markdown

    return (
        {} if sheet is None else {"contact_sheet": dg.MetadataValue.md(inline_markdown(sheet, alt))}
    )


def coverage_metadata(
    rows: Sequence[RawRow] | Sequence[FrameRow], channels: Sequence[str]
) -> dict[str, Any]:
    """Coverage as numbers to plot over partitions, and the ledger's essence as tables."""
    found = sum(row.status == "ok" for row in rows)
    metadata: dict[str, Any] = {
        "frames_expected": len(rows),
        "frames_ok": found,
        "coverage": found / len(rows) if rows else 1.0,
    }
    summary: list[dict[str, Any]] = []
    for channel in channels:
        counts = Counter(row.status for row in rows if row.channel == channel)
        expected = counts.total()
        metadata[f"coverage_{channel}"] = counts["ok"] / expected if expected else 1.0
        summary.append({"channel": channel, **{status: counts[status] for status in STATUSES}})
    absent = [row for row in rows if row.status != "ok"]
    metadata["frames_absent"] = len(absent)
    metadata["frames_by_status"] = table_metadata(
        summary, {"channel": "string", **dict.fromkeys(STATUSES, "int")}
    )
    metadata["absent"] = table_metadata(
        [
            {
                "slot": f"{row.slot:%H:%M}",
                "channel": row.channel,
                "status": row.status,
                "reason": row.reason or "",
            }
            for row in absent
        ],
        dict.fromkeys(("slot", "channel", "status", "reason"), "string"),
    )
    return metadata


def table_metadata(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> dg.TableMetadataValue:
    """A table for the UI: its first rows, and the type of each column by name."""
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows[:LISTED_ROWS]],
        schema=dg.TableSchema.from_name_type_dict(dict(columns)),
    )
