"""Find the days of the dataset that active or queued runs are building.

Runs can come from the schedule, a job, "Materialize all" or the command line. A run may build a
range of days. A backfill includes days for which no run has been launched yet.
"""

from collections.abc import Iterator
from datetime import date

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus

from sdoml_dagster.asset_names import DEFAULT_DATASET, DatasetNames
from sdoml_dagster.days import days_between, parse_day
from sdoml_dagster.jobs.asset_jobs import DATASET_TAG, build_asset_jobs, daily_assets
from sdoml_dagster.runs.dead_runs import is_dead
from sdoml_dagster.settings.model import Settings

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def days_in_progress(instance: dg.DagsterInstance, settings: Settings) -> set[date]:
    """Return the days that the dataset's active runs and backfills are building.

    Runs whose process was killed are ignored.
    """
    names = DatasetNames(settings.name)
    keys = {dg.AssetKey(names.key(asset)) for asset in daily_assets(settings)}
    jobs = {job.name for job in build_asset_jobs(settings)}
    days: set[date] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS)):
        if is_dead(run):
            continue
        if run.asset_selection is not None:
            ours = not keys.isdisjoint(run.asset_selection)
        else:
            ours = (
                run.job_name in jobs and run.tags.get(DATASET_TAG, DEFAULT_DATASET) == settings.name
            )
        if ours:
            days |= set(_days_of(run))
    return days | _days_of_backfills(instance, keys)


def _days_of(run: dg.DagsterRun) -> Iterator[date]:
    """Yield the days in the tags of a run."""
    tags = run.tags
    first = parse_day(tags.get("dagster/asset_partition_range_start", ""))
    last = parse_day(tags.get("dagster/asset_partition_range_end", ""))
    if first and last:
        yield from days_between(first, last)
    elif day := parse_day(tags.get("dagster/partition", "")):
        yield day


def _days_of_backfills(instance: dg.DagsterInstance, keys: set[dg.AssetKey]) -> set[date]:
    """Return the days of active backfills for which no run has been launched yet."""
    active = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
    days: set[date] = set()
    for backfill in instance.get_backfills(filters=active):
        data = backfill.asset_backfill_data if backfill.is_asset_backfill else None
        if data is None:
            continue
        launched = data.requested_subset.partitions_subsets_by_asset_key
        for key, target in data.target_subset.partitions_subsets_by_asset_key.items():
            if key in keys:
                waiting = target - launched[key] if key in launched else target
                days |= {date.fromisoformat(day) for day in waiting.get_partition_keys()}
    return days
