"""Checks of days: declaration, selection of the days to check, and recording of findings."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.event_api import EventLogRecord

from sdoml_core.errors import (
    DamagedFileError,
    MissingInputError,
    NormalizationError,
    SettingError,
)
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store
from sdoml_dagster.ui_metadata import number


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check for one day."""

    passed: bool
    description: str
    severe: bool = False
    """A failed check is an error rather than a warning."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """Return the severity in Dagster's terms."""
        return dg.AssetCheckSeverity.ERROR if self.severe else dg.AssetCheckSeverity.WARN

    def shown(self) -> dict[str, Any]:
        """Return metadata for the UI, rounded because the UI shows all digits of a number."""
        return {k: number(v) if isinstance(v, float) else v for k, v in self.metadata.items()}


@dataclass(frozen=True, slots=True)
class DayCheck:
    """One check of a daily asset."""

    description: str
    judge: Callable[[Store, date, Settings], Finding]
    reads_pixels: bool = True
    """Whether it reads frames. The other checks need only tables and sketches."""


DayChecks = Mapping[str, DayCheck]
"""Checks of one asset by name."""


def build_day_checks(asset: str, checks: DayChecks, settings: Settings) -> dg.AssetChecksDefinition:
    """Build the checks of one daily asset, all in one step.

    A check never fails the run. Its finding is its result. A run without a day, which is what
    "Execute all" launches, checks the latest materialized day.
    """
    names = DatasetNames(settings.name)
    key = dg.AssetKey(names.key(asset))
    with warnings.catch_warnings():
        # Partitioned checks are a preview in Dagster 1.13.
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
        selected = {key.name for key in context.selected_asset_check_keys}
        dated = context.has_partition_key or context.has_partition_key_range
        with failures_explained():
            days = (
                [date.fromisoformat(day) for day in context.partition_keys]
                if dated
                else [_latest_day(context.instance, key, settings)]
            )
            opened = store.open()
            targets = {day: target(context.instance, key, day) for day in days}
            for name, check in checks.items():
                if name not in selected:
                    continue
                for day in days:
                    finding = judged(check, opened, day, settings)
                    yield evaluation(key, name, day, finding, targets[day])
                if not dated:
                    # Completes the check that the run planned, which names no day.
                    text = replace(finding, description=f"{days[0]}: {finding.description}")
                    last = target(context.instance, key, None)
                    yield evaluation(key, name, None, text, last)
                yield dg.Output(None, outputs[name])

    return run_checks


def judged(check: DayCheck, store: Store, day: date, settings: Settings) -> Finding:
    """Return the finding of a check. A missing or damaged input is also a finding."""
    try:
        return check.judge(store, day, settings)
    except (DamagedFileError, MissingInputError, NormalizationError) as error:
        return Finding(passed=False, severe=True, description=str(error))


def evaluation(
    asset: dg.AssetKey,
    name: str,
    day: date | None,
    finding: Finding,
    materialization: AssetCheckEvaluationTargetMaterializationData | None,
) -> dg.AssetCheckEvaluation:
    """Return the evaluation of a day.

    The evaluation names its target materialization. Otherwise Dagster treats the evaluation of a
    day in a backfill as outdated and shows the check as missing.
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
    """Return the latest materialization of a day, or of any day."""
    partitions = None if day is None else [day.isoformat()]
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset, asset_partitions=partitions), limit=1
    ).records
    return as_target(records[0]) if records else None


def as_target(record: EventLogRecord) -> AssetCheckEvaluationTargetMaterializationData:
    """Return a materialization as the target of evaluations."""
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
    """Return the first few complaints of a list, and the number of the others."""
    shown = "; ".join(texts[:most])
    return shown if len(texts) <= most else f"{shown}; and {len(texts) - most} more"
