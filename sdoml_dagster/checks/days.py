"""Checks of a day: how they are declared, run over the days of a run, and put on record."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from sdoml_core.errors import DamagedFileError, MissingInputError, NormalizationError
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found for one day."""

    passed: bool
    description: str
    severe: bool = False
    """An error rather than a warning, where it did not pass."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """As Dagster calls it."""
        return dg.AssetCheckSeverity.ERROR if self.severe else dg.AssetCheckSeverity.WARN


Check = Callable[[Store, date, Settings], Finding]


def build_day_checks(
    asset: str, checks: Mapping[str, tuple[str, Check]], settings: Settings
) -> dg.AssetChecksDefinition:
    """Checks of one daily asset, by name with their descriptions, in one step.

    A check never fails the run: what it says is its result.
    """
    with warnings.catch_warnings():
        # Checks that know their partition are a preview in Dagster 1.13.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(
                name,
                asset=asset,
                description=description,
                partitions_def=daily_partitions(settings),
            )
            for name, (description, _) in checks.items()
        ]

    @dg.multi_asset_check(name=f"check_{asset}", specs=specs, can_subset=True)
    def run_checks(
        context: dg.AssetCheckExecutionContext, store: StoreResource
    ) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
        days = [date.fromisoformat(key) for key in context.partition_keys]
        selected = {key.name for key in context.selected_asset_check_keys}
        with failures_explained():
            opened = store.open()
            for name, (_, check) in checks.items():
                if name in selected:
                    findings = {day: _judged(check, opened, day, settings) for day in days}
                    yield from _results(asset, name, findings, each=not context.has_partition_key)

    return run_checks


def _judged(check: Check, store: Store, day: date, settings: Settings) -> Finding:
    """What a check finds; that it has nothing to look at, or something damaged, is a finding."""
    try:
        return check(store, day, settings)
    except (DamagedFileError, MissingInputError, NormalizationError) as error:
        return Finding(passed=False, severe=True, description=str(error))


def _results(
    asset: str,
    name: str,
    findings: Mapping[date, Finding],
    *,
    each: bool,
) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
    """The finding of the one day; of a range each, and then the worst for the run."""
    if each:
        for day, finding in findings.items():
            yield dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset),
                check_name=name,
                passed=finding.passed,
                severity=finding.severity,
                description=finding.description,
                metadata=finding.metadata,
                partition=day.isoformat(),
            )
    which, worst = max(findings.items(), key=lambda item: (not item[1].passed, item[1].severe))
    yield dg.AssetCheckResult(
        asset_key=asset,
        check_name=name,
        passed=worst.passed,
        severity=worst.severity,
        description=f"{which}: {worst.description}" if each else worst.description,
        metadata=worst.metadata,
    )


def listed(texts: Sequence[str], most: int = 5) -> str:
    """The first few of a list of complaints, and how many more there are."""
    shown = "; ".join(texts[:most])
    return shown if len(texts) <= most else f"{shown}; and {len(texts) - most} more"
