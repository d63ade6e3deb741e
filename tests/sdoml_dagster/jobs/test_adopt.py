"""`adopt_store` creates the records of all days of a store in an empty Dagster home."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.jobs.runless_events import record_events
from sdoml_dagster.settings.model import Settings
from tests.sdoml_dagster.assets.test_staleness import stale
from tests.support.runs import DAILY, FIRST, SECOND

EVERYTHING = [
    *((name, day) for name in DAILY for day in (FIRST, SECOND)),
    ("normalization_stats", None),
]


def versions(instance: dg.DagsterInstance) -> dict[tuple[str, str | None], Any]:
    """Return the data version and content of the latest materialization per asset and day."""
    found = {}
    for name, day in EVERYTHING:
        record = instance.get_latest_data_version_record(dg.AssetKey(name), partition_key=day)
        assert record is not None, (name, day)
        materialization = record.asset_materialization
        assert materialization is not None
        tags = materialization.tags or {}
        found[name, day] = (tags["dagster/data_version"], tags["dagster/code_version"])
    return found


def empty_home(folder: Path) -> dg.DagsterInstance:
    home = folder / "new"
    home.mkdir()
    return dg.DagsterInstance.local_temp(str(home))


def adopt(instance: dg.DagsterInstance, **settings: Any) -> dg.ExecuteInProcessResult:
    job = build_defs(Settings.load(**settings)).resolve_job_def("adopt_store")
    return job.execute_in_process(instance=instance, raise_on_error=False)


@pytest.fixture
def offline(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDOML_AIA_ROOTS", "http://127.0.0.1:9")
    monkeypatch.setenv("SDOML_HMI_ROOTS", "http://127.0.0.1:9")


def test_empty_home_adopts_every_day_using_only_tables(
    built: dg.DagsterInstance, offline: None, settings: Settings, tmp_path: Path
) -> None:
    before = versions(built)
    store = Path(settings.store)
    for frame in (*store.rglob("*.fits"), *store.rglob("*.jpg"), *store.rglob("*.npy")):
        frame.unlink()  # adopting a day needs neither raw frames nor pixels
    with empty_home(tmp_path) as fresh:
        result = adopt(fresh)
        assert result.success
        assert versions(fresh) == before
        assert stale(fresh, FIRST, SECOND) == set()
        check = dg.AssetCheckKey(dg.AssetKey("processed_aia"), "coverage")
        history = fresh.event_log_storage.get_asset_check_execution_history(check, limit=5)
        assert {record.partition for record in history} == {FIRST, SECOND}
        assert all(record.status.value == "SUCCEEDED" for record in history)
        again = adopt(fresh)
        (said,) = [
            entry.user_message
            for entry in fresh.all_logs(again.run_id)
            if "reported" in entry.user_message
        ]
        assert "reported 0 materializations from 2 days" in said


def test_days_with_other_settings_are_adopted_as_stale(
    built: dg.DagsterInstance, offline: None, tmp_path: Path
) -> None:
    with empty_home(tmp_path) as fresh:
        assert adopt(fresh, resolution=128).success
        assert stale(fresh, FIRST, resolution=128) >= {
            f"processed_aia@{FIRST}",
            f"processed_hmi@{FIRST}",
            f"shards@{FIRST}",
        }


def test_damaged_table_is_reported_and_the_rest_is_adopted(
    built: dg.DagsterInstance, offline: None, settings: Settings, tmp_path: Path
) -> None:
    path = Path(settings.store, "raw/2024/03/08/aia.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    with empty_home(tmp_path) as fresh:
        result = adopt(fresh)
        assert result.success
        assert fresh.get_materialized_partitions(dg.AssetKey("raw_aia")) == {SECOND}
        assert fresh.get_materialized_partitions(dg.AssetKey("raw_hmi")) == {FIRST, SECOND}
        said = [entry.user_message for entry in fresh.all_logs(result.run_id)]
        assert any("materialize raw_aia of 2024-03-08 again" in text for text in said)


def test_transaction_count_does_not_depend_on_the_number_of_days(
    built: dg.DagsterInstance, offline: None, tmp_path: Path
) -> None:
    commits: list[int] = []

    def count(_connection: Connection) -> None:
        commits[-1] += 1

    event.listen(Engine, "commit", count)
    try:
        for last in (FIRST, SECOND):
            (tmp_path / last).mkdir()
            commits.append(0)
            with dg.DagsterInstance.local_temp(str(tmp_path / last)) as fresh:
                job = build_defs(Settings.load()).resolve_job_def("adopt_store")
                config = {"ops": {"adopt": {"config": {"last_day": last}}}}
                assert job.execute_in_process(run_config=config, instance=fresh).success
                assert len(fresh.get_materialized_partitions(dg.AssetKey("shards"))) == len(commits)
    finally:
        event.remove(Engine, "commit", count)
    assert commits[0] == commits[1]


def test_batched_events_match_single_events(instance: dg.DagsterInstance) -> None:
    one, many = dg.AssetKey("one"), dg.AssetKey("many")
    for key in (one, many):
        events = [
            dg.AssetMaterialization(key, partition=FIRST, tags={"dagster/data_version": "a"}),
            dg.AssetMaterialization(key, partition=SECOND, tags={"dagster/data_version": "b"}),
            dg.AssetObservation(key, partition=FIRST),
            dg.AssetCheckEvaluation(
                asset_key=key, check_name="check", passed=False, partition=FIRST
            ),
        ]
        if key == many:
            record_events(instance, events)
        else:
            for single in events:
                instance.report_runless_asset_event(single)
    shown = []
    for key in (one, many):
        record = instance.get_latest_data_version_record(key, partition_key=SECOND)
        assert record is not None
        history = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(key, "check"), limit=5
        )
        entry = record.event_log_entry
        shown.append(
            (
                instance.get_materialized_partitions(key),
                instance.get_latest_materialization_event(key).timestamp == entry.timestamp,
                [(execution.status, execution.partition) for execution in history],
                (entry.run_id, entry.level, entry.job_name, entry.user_message, entry.step_key),
                len(instance.fetch_observations(key, limit=5).records),
            )
        )
    assert shown[0] == shown[1]
