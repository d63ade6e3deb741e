"""What the assets share: how they are declared, and how errors become Dagster failures."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any, TypedDict

import dagster as dg

from sdoml_core.errors import OutageError, SdomlError, SettingError, StoreError
from sdoml_core.ledger import FrameRow, RawRow, TableFormat
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings import Settings

OWNERS = ["team:sdoml-lite"]

LISTED_ROWS = 100
"""Rows of a ledger that are shown in the UI; the file has them all."""


class DailyOptions(TypedDict):
    """Arguments of ``dagster.asset`` that all daily assets share."""

    partitions_def: dg.PartitionsDefinition[str]
    backfill_policy: dg.BackfillPolicy
    retry_policy: dg.RetryPolicy
    owners: Sequence[str]


def daily(settings: Settings) -> DailyOptions:
    """What all daily assets are declared with."""
    days = settings.days_per_run
    return {
        "partitions_def": daily_partitions(settings),
        "backfill_policy": dg.BackfillPolicy.multi_run(days)
        if days
        else dg.BackfillPolicy.single_run(),
        "retry_policy": retry_policy(settings),
        "owners": OWNERS,
    }


def retry_policy(settings: Settings) -> dg.RetryPolicy:
    """Try again after 1, 2 and 4 delays, give or take; failures that cannot recover opt out."""
    return dg.RetryPolicy(
        max_retries=settings.run_retries,
        delay=settings.retry_delay,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


def config_day(text: str | None, name: str) -> date | None:
    """A day from run config, which knows no dates of its own."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise SettingError(f"run config {name}={text!r} is no date such as 2024-03-08") from None


@contextlib.contextmanager
def failures_explained() -> Iterator[None]:
    """Show an error as its one line; retry it only where its type says that this can help."""
    try:
        yield
    except SdomlError as error:
        recoverable = isinstance(error, OutageError | StoreError)
        raise dg.Failure(str(error), allow_retries=recoverable) from error


def column_schema(table: TableFormat[Any]) -> dg.TableSchema:
    """A ledger's columns for the catalogue."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(column.name, column.type, description=column.description)
            for column in table.columns
        ]
    )


def coverage_metadata(
    rows: Sequence[RawRow] | Sequence[FrameRow], channels: Iterable[str]
) -> dict[str, Any]:
    """Coverage as numbers to plot over partitions, and the frames that are not there as a table."""
    found = sum(row.status == "ok" for row in rows)
    metadata: dict[str, Any] = {
        "frames_expected": len(rows),
        "frames_ok": found,
        "coverage": found / len(rows) if rows else 1.0,
    }
    for channel in channels:
        mine = [row.status == "ok" for row in rows if row.channel == channel]
        metadata[f"coverage_{channel}"] = sum(mine) / len(mine) if mine else 1.0
    absent = [row for row in rows if row.status != "ok"]
    metadata["frames_not_ok"] = len(absent)
    metadata["absent"] = dg.MetadataValue.table(
        [
            dg.TableRecord(
                {
                    "slot": f"{row.slot:%H:%M}",
                    "channel": row.channel,
                    "status": row.status,
                    "reason": row.reason or "",
                }
            )
            for row in absent[:LISTED_ROWS]
        ],
        schema=dg.TableSchema.from_name_type_dict(
            dict.fromkeys(("slot", "channel", "status", "reason"), "string")
        ),
    )
    return metadata
