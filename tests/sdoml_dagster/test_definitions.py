"""What the code location offers, what it costs to load, and what its failures say."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.instance.home import INSTANCE
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY, Materialize

ASSETS = {*DAILY, "normalization_stats", "release"}
JOBS = {"ingest", "fit_normalization", "build_shards", "daily_update", "make_release"}


@pytest.fixture
def graph(settings: Settings) -> AssetGraph:
    return build_defs(settings).resolve_asset_graph()


def test_assets_jobs_and_schedule_have_their_public_names(settings: Settings) -> None:
    defs = build_defs(settings)
    assert {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()} == (
        ASSETS
    )
    assert {job.name for job in defs.resolve_all_job_defs()} >= JOBS
    schedule = defs.resolve_schedule_def("daily_update_schedule")
    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.execution_timezone == "UTC"


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_each_asset_is_described(graph: AssetGraph, name: str) -> None:
    node = graph.get(dg.AssetKey(name))
    spec = node.assets_def.specs_by_key[dg.AssetKey(name)]
    assert len(spec.description or "") > 200
    assert spec.group_name == name.split("_", maxsplit=1)[0]
    assert spec.owners == ["team:sdoml-lite"]
    assert spec.kinds
    assert spec.code_version
    assert node.assets_def.op.retry_policy is not None


def test_ledgers_have_their_columns_in_the_catalogue(graph: AssetGraph) -> None:
    for name in DAILY[:4]:
        schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
        columns = {column.name: column.description for column in schema.columns}
        assert {"slot", "channel", "status", "reason"} <= columns.keys()
        assert all(columns.values())


def test_raw_assets_share_the_pool(graph: AssetGraph) -> None:
    pools = {name: graph.get(dg.AssetKey(name)).assets_def.op.pool for name in DAILY}
    assert pools == dict.fromkeys(DAILY[:2], "jsoc") | dict.fromkeys(DAILY[2:])


def test_a_growing_dataset_has_a_freshness_policy(settings: Settings) -> None:
    def policy(**overrides: object) -> object:
        graph = build_defs(Settings.load(**overrides)).resolve_asset_graph()
        return graph.get(dg.AssetKey("shards")).freshness_policy

    assert policy() is not None
    assert policy(end="2024-04-01") is None


def test_definitions_load_without_the_heavy_packages(environment: dict[str, str]) -> None:
    heavy = ["torch", "astropy", "numba", "matplotlib", "numpy", "pyarrow", "PIL"]
    code = f"import sys, sdoml_dagster.definitions; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "[]"


def test_all_instances_have_the_same_rules() -> None:
    one = yaml.safe_load(INSTANCE.read_text())
    many = yaml.safe_load((Path(__file__).parents[2] / "docker/dagster.yaml").read_text())
    for rules in (one, many):
        assert rules["telemetry"] == {"enabled": False}
        assert rules["concurrency"]["pools"]["granularity"] == "op"
        assert rules["concurrency"]["runs"]["max_concurrent_runs"] > 0
        assert rules["run_monitoring"]["enabled"]
        assert rules["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert one["run_retries"] == many["run_retries"]


@pytest.mark.parametrize(
    ("steps", "last", "config", "words"),
    [
        ([], "processed_hmi", None, ["raw_hmi of 2024-03-08", "run ingest for the day first"]),
        ([], "shards", None, ["run fit_normalization first"]),
        ([], "normalization_stats", None, ["run ingest first"]),
        (["raw_hmi"], "normalization_stats", {"first_day": "soon"}, ["first_day='soon'"]),
        ([], "release", None, ["no shard", "run build_shards"]),
    ],
    ids=["no raw", "no constants", "no processed", "bad config", "no shards"],
)
def test_what_is_missing_upstream_is_one_line_and_not_retried(
    materialize: Materialize,
    steps: list[str],
    last: str,
    config: dict[str, str] | None,
    words: list[str],
) -> None:
    partitioned = last in DAILY
    for step in steps:
        assert materialize(step, day="2024-03-08").success
    result = materialize(
        last,
        day="2024-03-08" if partitioned else None,
        config={last: {"config": config}} if config else None,
    )
    assert not result.success
    failures = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert len(failures) == 1
    assert not any(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)
    error = failures[0].step_failure_data.error
    assert error is not None
    for word in words:
        assert word in error.message


def test_only_what_can_recover_is_retried() -> None:
    from sdoml_core.errors import MissingInputError, OutageError, StoreError, StorePathError

    for error, retried in (
        (OutageError, True),
        (StoreError, True),
        (StorePathError, False),
        (MissingInputError, False),
    ):
        with pytest.raises(dg.Failure) as caught, failures_explained():
            raise error("why")
        assert caught.value.allow_retries is retried
        assert caught.value.description == "why"
