"""Days in progress are found in all kinds of runs, but only in runs of the same dataset."""

from datetime import date

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sdoml_dagster.schedules.days_in_progress import days_in_progress
from sdoml_dagster.settings.model import Settings

DAY = date(2024, 3, 8)
ONE = {"dagster/partition": "2024-03-08"}
RANGE = {
    "dagster/asset_partition_range_start": "2024-03-08",
    "dagster/asset_partition_range_end": "2024-03-10",
}
STARTED = dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize(
    ("job", "tags", "assets"),
    [
        ("daily_update", ONE, None),
        ("ingest", ONE, None),
        ("__ASSET_JOB", ONE, {"shards"}),
        ("__ASSET_JOB", RANGE, {"raw_aia", "raw_hmi"}),
        ("ingest", RANGE, None),
    ],
    ids=["schedule", "ingest", "materialize all", "range", "range of a job"],
)
def test_days_of_active_runs_are_in_progress(
    settings: Settings, job: str, tags: dict[str, str], assets: set[str] | None
) -> None:
    selection = frozenset(map(dg.AssetKey, assets)) if assets else None
    with dg.DagsterInstance.ephemeral() as instance:
        run = create_run_for_test(
            instance, job, status=STARTED, tags=tags, asset_selection=selection
        )
        found = days_in_progress(instance, settings)
        assert DAY in found
        assert len(found) == (3 if tags is RANGE else 1)
        instance.report_run_failed(run)
        assert days_in_progress(instance, settings) == set()


def test_runs_of_another_dataset_are_ignored(settings: Settings) -> None:
    other = Settings.load(name="hmi-only")
    with dg.DagsterInstance.ephemeral() as instance:
        create_run_for_test(
            instance, "ingest", status=STARTED, tags={**ONE, "sdoml/dataset": "hmi-only"}
        )
        create_run_for_test(
            instance,
            "__ASSET_JOB",
            status=STARTED,
            tags=ONE,
            asset_selection=frozenset({dg.AssetKey(["hmi_only", "raw_hmi"])}),
        )
        assert days_in_progress(instance, settings) == set()
        assert days_in_progress(instance, other) == {DAY}
