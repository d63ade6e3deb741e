"""What the assets share: how they are declared, versioned and described, and how they fail."""

import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, TypedDict

import dagster as dg

from sdoml_core.errors import OutageError, SdomlError, SettingError, StoreError, StorePathError
from sdoml_core.ledger import STATUSES, FrameRow, RawRow, TableFormat
from sdoml_dagster.console import INTERRUPTED
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image

OWNERS = ["team:sdoml-lite"]

LISTED_ROWS = 100
"""Absent frames that are listed in the UI; the ledger has them all."""

_CONTENT = "content"
"""Metadata entry with the hash of what a day came to."""


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


def code_version(version: str, **recipe: object) -> str:
    """Version of an asset's code together with the settings that decide what it makes.

    So a change of the resolution shows every day made before as stale, for that reason.
    """
    return " ".join([version, *(f"{name}={value}" for name, value in recipe.items())])


class DayContents:
    """Hashes of what the days of a run came to, and the data version that they make.

    A day whose content is what its last materialisation recorded keeps that one's data version,
    so that nothing downstream turns stale. It matters after a run over a range: Dagster has one
    data version per asset and run, which there is a hash of all its days.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._hashes: dict[str, str] = {}

    def add(self, day: date, content: bytes, metadata: Mapping[str, Any]) -> None:
        """Record a finished day and what the UI shows of it."""
        digest = hashlib.sha256(content).hexdigest()
        self._hashes[day.isoformat()] = digest
        self._context.add_asset_metadata(
            {**metadata, _CONTENT: digest}, partition_key=day.isoformat()
        )

    def result(self) -> dg.MaterializeResult[Any]:
        """What the asset returns at its end."""
        hashes = list(self._hashes.values())
        version = self._kept()
        if version is None:
            one = hashes[0] if len(hashes) == 1 else None
            version = one or hashlib.sha256("".join(hashes).encode()).hexdigest()
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    def _kept(self) -> str | None:
        """The version that all days already have with this very content."""
        versions = set()
        for key, digest in self._hashes.items():
            materialization = self._last(key)
            if materialization is None:
                return None
            recorded = materialization.metadata.get(_CONTENT)
            if recorded is None or recorded.value != digest:
                return None
            versions.add((materialization.tags or {}).get("dagster/data_version"))
        return versions.pop() if len(versions) == 1 else None

    def _last(self, key: str) -> dg.AssetMaterialization | None:
        records = self._context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=self._context.asset_key, asset_partitions=[key]),
            limit=1,
        ).records
        return records[0].asset_materialization if records else None


def config_day(text: str | None, name: str) -> date | None:
    """A day from run config, which knows no dates of its own."""
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise SettingError(f"run config {name}={text!r} is no date such as 2024-03-08") from None


class InterruptedRunError(dg.DagsterError, KeyboardInterrupt):
    """Ctrl-C, or a run that was terminated.

    Dagster's retry policies take an interrupt for a failure, wait, and try again; errors of its
    own pass them by. As a ``KeyboardInterrupt`` it ends the run.
    """


@contextlib.contextmanager
def failures_explained() -> Iterator[None]:
    """Show an error as its one line; retry it only where its type says that this can help."""
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        raise InterruptedRunError(INTERRUPTED) from None
    except SdomlError as error:
        mends = isinstance(error, OutageError | StoreError)
        recoverable = mends and not isinstance(error, StorePathError)
        # The line says all; where it was raised helps nobody who reads it in the UI.
        raise dg.Failure(str(error), allow_retries=recoverable) from None


def column_schema(table: TableFormat[Any]) -> dg.TableSchema:
    """A ledger's columns for the catalogue."""
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
            for row in absent[:LISTED_ROWS]
        ],
        dict.fromkeys(("slot", "channel", "status", "reason"), "string"),
    )
    return metadata


def table_metadata(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> dg.TableMetadataValue:
    """A table for the UI: rows, and the type of each column by name."""
    return dg.MetadataValue.table(
        [dg.TableRecord(row) for row in rows],
        schema=dg.TableSchema.from_name_type_dict(dict(columns)),
    )
