"""Create metadata for Dagster's UI: numbers, tables, paths and pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_core.formats.ledger import STATUSES, FrameRow, RawRow, TableFormat

if TYPE_CHECKING:
    from PIL.Image import Image

LISTED_ROWS = 100
"""Maximum number of table rows in the UI. Ledgers and logs contain all rows."""

STATUS_COLUMNS = {
    "ok": "Frames that are usable.",
    "missing": "Frames that the archive does not have.",
    "invalid": "Frames that are damaged or are not images.",
    "quality": "Frames whose QUALITY excludes them.",
    "blank": "Frames without content.",
    "outage": "Frames for which the archive did not respond.",
}


def number(value: float) -> float:
    """Round a number to six significant digits, which is enough to read and to plot."""
    return float(f"{value:.6g}")


def path(location: str) -> dg.PathMetadataValue:
    """Return a file, folder or address as metadata, which the UI shows with a copy button."""
    return dg.MetadataValue.path(location)


def column(name: str, kind: str, description: str) -> dg.TableColumn:
    """Describe a column of a table."""
    return dg.TableColumn(name, kind, description=description)


def column_schema(table: TableFormat[Any]) -> dg.TableSchema:
    """Return the columns of a ledger for the catalog."""
    return dg.TableSchema([column(c.name, c.type, c.description) for c in table.columns])


def picture(sheet: "Image | None", alt: str) -> dg.MetadataValue | None:
    """Return a contact sheet as metadata, or None if there is no sheet."""
    from sdoml_dagster.previews import inline_markdown

    return None if sheet is None else dg.MetadataValue.md(inline_markdown(sheet, alt))


def coverage_metadata(
    rows: Sequence[RawRow] | Sequence[FrameRow], channels: Sequence[str]
) -> dict[str, Any]:
    """Return coverage as numbers that Dagster plots over partitions, and absent frames as tables.

    If no frames are expected, the coverage is undefined and is left out.
    """
    found = sum(row.status == "ok" for row in rows)
    metadata: dict[str, Any] = {"frames_expected": len(rows), "frames_ok": found}
    if rows:
        metadata["coverage"] = number(found / len(rows))
    summary: list[dict[str, Any]] = []
    for channel in channels:
        counts = Counter(row.status for row in rows if row.channel == channel)
        if expected := counts.total():
            metadata[f"coverage_{channel}"] = number(counts["ok"] / expected)
        summary.append({"channel": channel, **{status: counts[status] for status in STATUSES}})
    absent = [row for row in rows if row.status != "ok"]
    metadata["frames_absent"] = len(absent)
    metadata["frames_by_status"] = table_metadata(
        summary,
        [
            column("channel", "string", "Name of the channel."),
            *(column(status, "int", STATUS_COLUMNS.get(status, status)) for status in STATUSES),
        ],
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
        [
            column("slot", "string", "Time of the slot (UTC)."),
            column("channel", "string", "Name of the channel."),
            column("status", "string", "Why the frame is absent, in one word."),
            column("reason", "string", "Why the frame is absent, in detail."),
        ],
    )
    return metadata


def table_metadata(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[dg.TableColumn]
) -> dg.TableMetadataValue:
    """Return the first rows of a table, with the columns in the given order.

    The UI takes the order of the columns from the records, and shows all digits of a number.
    """
    names = [column.name for column in columns]
    records = []
    for row in rows[:LISTED_ROWS]:
        values = {name: row[name] for name in names}
        records.append(
            dg.TableRecord({k: number(v) if isinstance(v, float) else v for k, v in values.items()})
        )
    return dg.MetadataValue.table(records, schema=dg.TableSchema(list(columns)))
