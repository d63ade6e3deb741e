"""Deleting old event logs, with the setting or with a command, keeps what Dagster needs."""

import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.runs.delete_event_logs import delete_old_event_logs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY, FIRST, SECOND, Materialize, run_assets
from tests.support.staleness import stale

PAGE = (Path(__file__).parents[3] / "docs/operations.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"^find .* -delete$", PAGE, re.MULTILINE)
LONG_AGO = 1_600_000_000


def by_command(instance: dg.DagsterInstance) -> None:
    for path in Path(instance.root_directory, "history/runs").iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    subprocess.run(["bash", "-c", COMMAND], check=True)


def by_setting(instance: dg.DagsterInstance) -> None:
    (sensor,) = (
        sensor
        for sensor in build_defs(Settings.load(event_log_days=30)).sensors or ()
        if sensor.name == "event_log_sensor"
    )
    context = dg.build_sensor_context(instance)
    assert sensor.evaluate_tick(context).skip_message == "deleted the event logs of 0 runs"
    number = delete_old_event_logs(instance, before=datetime.now(UTC) + timedelta(minutes=1))
    assert number == len(instance.get_runs())


@pytest.fixture(params=[by_command, by_setting], ids=["command", "setting"])
def shortened(built: dg.DagsterInstance, request: pytest.FixtureRequest) -> dg.DagsterInstance:
    """An instance with two built days, whose event logs have been deleted because of their age."""
    runs = built.get_runs()
    assert all(built.all_logs(run.run_id) for run in runs)
    request.param(built)
    folder = Path(built.root_directory, "history/runs")
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"index"}
    return built


def test_days_stay_fresh_and_materialized(shortened: dg.DagsterInstance) -> None:
    assert stale(shortened, FIRST, SECOND) == set()
    for name in DAILY:
        found = shortened.get_materialized_partitions(dg.AssetKey(name))
        assert found == {FIRST, SECOND}, name


def test_changes_still_make_days_stale(
    shortened: dg.DagsterInstance, materialize: Materialize
) -> None:
    assert stale(shortened, FIRST, resolution=128) == {
        f"processed_aia@{FIRST}",
        f"processed_hmi@{FIRST}",
    }
    assert materialize("normalization_stats").success
    assert stale(shortened, FIRST, SECOND) == {f"shards@{FIRST}", f"shards@{SECOND}"}


def test_runs_and_metadata_are_kept(
    shortened: dg.DagsterInstance, environment: dict[str, str]
) -> None:
    # Processes that have opened the deleted files, such as a webserver, must be restarted.
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as restarted:
        runs = restarted.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert not any(restarted.all_logs(run.run_id) for run in runs)
        (record,) = restarted.fetch_materializations(dg.AssetKey("shards"), limit=1).records
        assert record.asset_materialization is not None
        assert record.asset_materialization.metadata


def test_shared_table_keeps_asset_events_and_active_runs(environment: dict[str, str]) -> None:
    """PostgreSQL and in-memory instances keep all events in one table."""
    now = datetime.now(UTC)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run_assets(instance, *DAILY, "normalization_stats", day=FIRST).success
        (run,) = instance.get_runs()
        active = create_run_for_test(instance, "ingest", status=dg.DagsterRunStatus.STARTED)
        instance.report_engine_event("the run begins", active)
        assert delete_old_event_logs(instance, before=now - timedelta(days=1)) == 0
        assert delete_old_event_logs(instance, before=now + timedelta(minutes=5)) == 1
        assert delete_old_event_logs(instance, before=now + timedelta(minutes=5)) == 0
        left = [entry.dagster_event for entry in instance.all_logs(run.run_id)]
        assert left
        assert all(event is not None and event.asset_key is not None for event in left)
        assert len(instance.all_logs(active.run_id)) == 1
        assert stale(instance, FIRST) == set()
        check = dg.AssetCheckKey(dg.AssetKey("shards"), "freshness")
        storage = instance.event_log_storage
        assert storage.get_asset_check_execution_history(check, limit=1)


def test_event_logs_are_kept_by_default(settings: Settings) -> None:
    names = {sensor.name for sensor in build_defs(settings).sensors or ()}
    assert "event_log_sensor" not in names
