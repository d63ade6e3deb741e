"""Checks on daily assets: declare checks, select the days to check, and record the findings."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.event_api import EventLogRecord, PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from sdoml_core import __version__
from sdoml_core.errors import (
    DamagedFileError,
    MissingInputError,
    NormalizationError,
    SettingError,
)
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.latest_events import LatestOfRun
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.recent_tables import RecentTables
from sdoml_dagster.store.store import Store
from sdoml_dagster.ui_metadata import number


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check for one day."""

    passed: bool
    description: str
    severe: bool = False
    """Whether a failed check is an error rather than a warning."""
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """Return the severity in Dagster's terms."""
        return dg.AssetCheckSeverity.ERROR if self.severe else dg.AssetCheckSeverity.WARN

    def shown(self) -> dict[str, Any]:
        """Return metadata for the UI. Numbers are rounded, because the UI shows all digits."""
        return {k: number(v) if isinstance(v, float) else v for k, v in self.metadata.items()}


@dataclass(frozen=True, slots=True)
class DayCheck:
    """One check of a daily asset."""

    description: str
    judge: Callable[[Store, date, Settings], Finding]
    reads_pixels: bool = True
    """Whether the check reads frames. Other checks need only tables and sketches."""


JUDGED = "judged"
"""Metadata entry of checks that read pixels. Its value identifies the checked content."""

DayChecks = Mapping[str, DayCheck]
"""Checks of one asset, by name."""


def build_day_checks(asset: str, checks: DayChecks, settings: Settings) -> dg.AssetChecksDefinition:
    """Build the checks of one daily asset, all in one step.

    A check never fails the run. Problems are recorded as findings. A run without a day, such as one
    that "Execute all" launches, checks the latest materialized day.

    If a run materializes a day again with the same result, the checks do not read the pixels again.
    A run that only executes checks always reads the pixels.
    """
    names = DatasetNames(settings.name)
    key = dg.AssetKey(names.key(asset))
    with warnings.catch_warnings():
        # Partitioned checks are a preview feature in Dagster 1.13.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(
                name,
                asset=key,
                description=check.description,
                partitions_def=daily_partitions(settings),
            )
            for name, check in checks.items()
        ]

    outputs = {spec.name: spec.get_python_identifier() for spec in specs}

    @dg.multi_asset_check(name="_".join(["check", *key.path]), specs=specs, can_subset=True)
    def run_checks(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
        asked = {key.name for key in context.selected_asset_check_keys}
        selected = [name for name in checks if name in asked]
        dated = context.has_partition_key or context.has_partition_key_range
        with failures_explained():
            days = (
                [date.fromisoformat(day) for day in context.partition_keys]
                if dated
                else [_latest_day(context.instance, key, settings)]
            )
            # Several checks read the same tables, including those of earlier days.
            opened = RecentTables(store.url)
            latest = LatestOfRun(context.instance, key, [day.isoformat() for day in days])
            for day in days:
                record = latest.get(day.isoformat())
                for name in selected:
                    finding = None
                    if record and checks[name].reads_pixels and record.run_id == context.run.run_id:
                        finding = passed_before(context.instance, key, name, record)
                    if finding is None:
                        finding = judged(checks[name], opened, day, settings)
                    if record and checks[name].reads_pixels:
                        finding = replace(
                            finding, metadata=finding.metadata | {JUDGED: subject(record)}
                        )
                    yield evaluation(key, name, day, finding, as_target(record) if record else None)
                    if not dated:
                        # Dagster also expects an evaluation that has no partition.
                        text = replace(finding, description=f"{day}: {finding.description}")
                        last = target(context.instance, key, None)
                        yield evaluation(key, name, None, text, last)
            for name in selected:
                yield dg.Output(None, outputs[name])

    return run_checks


def judged(check: DayCheck, store: Store, day: date, settings: Settings) -> Finding:
    """Return the finding of a check. A missing or damaged input is also a finding."""
    try:
        return check.judge(store, day, settings)
    except (DamagedFileError, MissingInputError, NormalizationError) as error:
        return Finding(passed=False, severe=True, description=str(error))


def subject(materialization: EventLogRecord) -> str:
    """Return a hash of the day's content, the code version and the version of the check."""
    recorded = materialization.asset_materialization
    if recorded is None:
        return ""
    content = recorded.metadata.get("content")
    recipe = (recorded.tags or {}).get("dagster/code_version")
    text = f"{content.value if content else None} {recipe} {__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def passed_before(
    instance: dg.DagsterInstance, asset: dg.AssetKey, name: str, materialization: EventLogRecord
) -> Finding | None:
    """Return the last finding for a day if the check passed and the content is unchanged."""
    executions = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(asset, name),
        limit=1,
        status={AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED},
        partition_filter=PartitionKeyFilter(key=materialization.partition_key),
    )
    last = executions[0].evaluation if executions else None
    if last is None or not last.passed:
        return None
    judged_before = last.metadata.get(JUDGED)
    if judged_before is None or judged_before.value != subject(materialization):
        return None
    return Finding(passed=True, description=last.description or "", metadata={**last.metadata})


def evaluation(
    asset: dg.AssetKey,
    name: str,
    day: date | None,
    finding: Finding,
    materialization: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a day.

    The evaluation contains its target materialization. Without it, Dagster would treat the
    evaluation of a day in a backfill as outdated and show the check as missing.
    """
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=name,
        passed=finding.passed,
        severity=finding.severity,
        description=finding.description,
        metadata=finding.shown(),
        partition=None if day is None else day.isoformat(),
        target_materialization_data=materialization,
    )


def target(
    instance: dg.DagsterInstance, asset: dg.AssetKey, day: date | None
) -> AssetCheckEvaluationTargetMaterializationData | None:
    """Return the latest materialization of a day, or of any day if None is given."""
    partitions = None if day is None else [day.isoformat()]
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset, asset_partitions=partitions), limit=1
    ).records
    return as_target(records[0]) if records else None


def as_target(record: EventLogRecord) -> AssetCheckEvaluationTargetMaterializationData:
    """Convert a materialization to an evaluation's target."""
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
    )


def _latest_day(instance: dg.DagsterInstance, asset: dg.AssetKey, settings: Settings) -> date:
    """Return the latest materialized day of the dataset.

    Raises
    ------
    SettingError
        If no day is materialized.
    """
    known = daily_partitions(settings)
    days = [
        day for day in instance.get_materialized_partitions(asset) if known.has_partition_key(day)
    ]
    if not days:
        raise SettingError(
            f"{asset.to_user_string()} has no materialized day to check: launch a backfill first"
        )
    return date.fromisoformat(max(days))


def listed(texts: Sequence[str], most: int = 5) -> str:
    """Join the first few problems, and state how many more there are."""
    shown = "; ".join(texts[:most])
    return shown if len(texts) <= most else f"{shown}; and {len(texts) - most} more"
