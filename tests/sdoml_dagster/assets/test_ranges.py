"""One run for a range of days: the command line, the days, their checks, and failed days."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from sdoml_demo.server import Archive
from tests.support.commands import run_module
from tests.support.deployment import Days
from tests.support.runs import DAILY, Materialize

DAYS = ("2024-03-08", "2024-03-09", "2024-03-10")
BASE = ["dagster", "asset", "materialize", "-m", "sdoml_dagster.definitions"]


def cli(*options: str) -> subprocess.CompletedProcess[str]:
    return run_module(*BASE, *options)


def test_partition_range_builds_all_days_in_one_run(
    environment: dict[str, str], monkeypatch: Any, instance: dg.DagsterInstance
) -> None:
    monkeypatch.setenv("SDOML_DAYS_PER_RUN", "0")
    done = cli("--select", "raw_hmi,processed_hmi", "--partition-range", f"{DAYS[0]}...{DAYS[2]}")
    assert done.returncode == 0, done.stderr
    assert len(instance.get_runs()) == 1
    for name in ("raw_hmi", "processed_hmi"):
        assert instance.get_materialized_partitions(dg.AssetKey(name)) == set(DAYS)


def test_error_for_a_partition_range_names_the_setting(
    environment: dict[str, str],
) -> None:
    done = cli("--select", "raw_hmi", "--partition-range", f"{DAYS[0]}...{DAYS[2]}")
    assert done.returncode != 0
    assert "a run over a range needs SDOML_DAYS_PER_RUN=0" in done.stderr


def test_days_per_run_sets_the_backfill_policy(settings: Settings) -> None:
    for days, expected in ((1, 1), (7, 7), (0, None)):
        graph = build_defs(Settings.load(days_per_run=days)).resolve_asset_graph()
        for name in DAILY:
            policy = graph.get(dg.AssetKey(name)).backfill_policy
            assert policy is not None
            assert policy.max_partitions_per_run == expected


def test_each_day_of_a_range_has_its_own_records(
    materialize: Materialize,
    findings: Callable[..., Any],
    instance: dg.DagsterInstance,
    settings: Settings,
) -> None:
    result = materialize(*DAILY, "normalization_stats", days=(DAYS[0], DAYS[2]))
    assert result.success
    found = findings(result)
    assert {partition for name, partition in found if name != "shards.freshness"} == set(DAYS)
    for day in DAYS:
        assert Path(settings.store, f"shards/2024/sdoml-lite-{day}.tar").is_file()
        assert found["shards.readable", day].passed
        assert found["processed_aia.coverage", day].passed
        record = instance.fetch_materializations(
            dg.AssetRecordsFilter(dg.AssetKey("shards"), asset_partitions=[day]), limit=1
        ).records[0]
        assert record.asset_materialization is not None
        assert day in str(record.asset_materialization.metadata["shard"].value)


def test_range_run_matches_single_day_runs(materialize: Materialize, settings: Settings) -> None:
    assert materialize(*DAILY, "normalization_stats", days=(DAYS[0], DAYS[1])).success
    shard = Path(settings.store, f"shards/2024/sdoml-lite-{DAYS[1]}.tar")
    data = shard.read_bytes()
    shard.unlink()
    assert materialize(*DAILY, day=DAYS[1]).success
    assert shard.read_bytes() == data


def test_all_assets_accept_a_range_and_keep_the_constants(
    environment: dict[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("SDOML_DAYS_PER_RUN", "0")
    store = Path(environment["SDOML_STORE"])
    first = cli("--select", "*", "--partition-range", f"{DAYS[0]}...{DAYS[1]}")
    assert first.returncode == 0, first.stderr
    constants = (store / "normalization/current.json").read_bytes()
    assert (store / "releases/sdoml-lite/SHA256SUMS").is_file()
    second = cli("--select", "*", "--partition-range", f"{DAYS[0]}...{DAYS[2]}")
    assert second.returncode == 0, second.stderr
    assert (store / "normalization/current.json").read_bytes() == constants
    said = second.stdout + second.stderr
    version = json.loads(constants)["version"]
    assert f"using constants {version}, fitted to 2 days from {DAYS[0]} to {DAYS[1]}" in said
    assert f"shards {DAYS[0]} to {DAYS[2]}: 3/3 days, 2 unchanged, " in said
    assert f"{DAYS[1]}: " not in said, "there must be no lines about single days"


def test_inverted_partition_range_is_rejected(
    environment: dict[str, str], monkeypatch: Any
) -> None:
    monkeypatch.setenv("SDOML_DAYS_PER_RUN", "0")
    done = cli("--select", "raw_hmi", "--partition-range", f"{DAYS[1]}...{DAYS[0]}")
    assert done.returncode != 0
    assert "is empty: put the earlier day first" in done.stdout + done.stderr


def test_error_for_a_job_without_a_day_explains_how_to_choose_one(
    environment: dict[str, str],
) -> None:
    module = ("-m", "sdoml_dagster.definitions")
    done = run_module("dagster", "job", "execute", *module, "-j", "build_shards")
    assert done.returncode != 0
    assert "this run has no day: launch a backfill" in done.stdout + done.stderr
    assert "trying again" not in done.stdout + done.stderr


def test_failed_day_of_a_range_does_not_stop_the_others(
    materialize: Materialize, instance: dg.DagsterInstance, archive: Archive, monkeypatch: Any
) -> None:
    monkeypatch.setattr(archive, "faults", Days(outage=frozenset({"2024/03/09"})))
    result = materialize("raw_hmi", days=(DAYS[0], DAYS[2]), attempts=1, run_retries=0)
    assert not result.success
    assert instance.get_materialized_partitions(dg.AssetKey("raw_hmi")) == {DAYS[0], DAYS[2]}
    (failed,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error is not None
    assert "1 of 3 days failed (2024-03-09). 2024-03-09: " in error.message


def test_outage_ends_a_range_after_three_days(
    materialize: Materialize, archive: Archive, monkeypatch: Any
) -> None:
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.FIRST_REST", 0.1)
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.PATIENCE", 1.0)  # instead of 30 s
    outage = frozenset(f"2024/03/{day:02}" for day in range(1, 20))
    monkeypatch.setattr(archive, "faults", Days(outage=outage))
    result = materialize("raw_hmi", days=("2024-03-01", "2024-03-09"), attempts=1, run_retries=0)
    (failed,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error is not None
    assert (
        "3 of 9 days failed (2024-03-01 … 2024-03-03; 2024-03-04 … 2024-03-09 not started)"
        in error.message
    )
