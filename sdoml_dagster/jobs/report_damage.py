"""Show in Dagster that ``verify_store`` found damage in a day.

Otherwise, a day whose shard was moved aside would still appear as materialized and fresh.
"""

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.data_versions import FORMER_VERSION
from sdoml_dagster.checks.days import Finding, evaluation, target
from sdoml_dagster.checks.processed import VALUES
from sdoml_dagster.checks.shards import READABLE
from sdoml_dagster.days import parse_day
from sdoml_dagster.jobs.asset_jobs import daily_assets
from sdoml_dagster.settings.model import Settings

if TYPE_CHECKING:
    from sdoml_dagster.maintenance.verify import Damage

DAMAGED = "damaged"
"""Data version and code version of a damaged day. No build has this version, so the day becomes
stale."""


def report_damage(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    settings: Settings,
    damages: Iterable["Damage"],
) -> None:
    """Mark the damaged days as stale, and fail the check that reads them.

    The check result is recorded under ``run``, because Dagster stores one result per check, day and
    run, and a day can be damaged more than once.

    The materialization keeps the content and the former data version of the day. If the day is
    rebuilt with the same content, it gets the former version again, and nothing downstream becomes
    stale.
    """
    reasons: dict[tuple[str, date], list[str]] = {}
    for damage in damages:
        asset, _, text = damage.remedy.partition(" of ")
        if asset in daily_assets(settings) and (day := parse_day(text)):
            reasons.setdefault((asset, day), []).append(f"{damage.path}: {damage.reason}")
    names = DatasetNames(settings.name)
    for (asset, day), lines in reasons.items():
        key = dg.AssetKey(names.key(asset))
        _report_stale(instance, key, day, "; ".join(lines))
        check = READABLE if asset == asset_names.SHARDS else VALUES
        if not asset.startswith("raw_"):
            found = Finding(passed=False, severe=True, description=f"damaged: {'; '.join(lines)}")
            failed = evaluation(key, check, day, found, target(instance, key, day))
            event = dg.DagsterEvent(
                dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
                run.job_name,
                event_specific_data=failed,
            )
            instance.report_dagster_event(event, run.run_id)


def _report_stale(instance: dg.DagsterInstance, key: dg.AssetKey, day: date, reason: str) -> None:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=[day.isoformat()]), limit=1
    ).records
    last = records[0].asset_materialization if records else None
    if last is None:
        return  # Dagster has no record of the day and already shows it as missing
    tags = dict(last.tags or {})
    former = last.metadata.get(FORMER_VERSION) or tags.get("dagster/data_version") or ""
    kept = {name: value for name, value in last.metadata.items() if name == "content"}
    instance.report_runless_asset_event(
        dg.AssetMaterialization(
            key,
            partition=day.isoformat(),
            description=f"damaged: {reason}. Materialize the day again",
            metadata={**kept, "damaged": reason, FORMER_VERSION: former},
            tags={
                **{name: value for name, value in tags.items() if "/input_" in name},
                "dagster/data_version": DAMAGED,
                "dagster/code_version": DAMAGED,
            },
        )
    )
