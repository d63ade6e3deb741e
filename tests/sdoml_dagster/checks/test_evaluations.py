"""Check evaluations: their target materialization and their day."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from sdoml_dagster.checks.days import Finding
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import FIRST, SECOND, Materialize


def evaluations(result: dg.ExecuteInProcessResult) -> list[dg.AssetCheckEvaluation]:
    return [e for e in result.get_asset_check_evaluations() if e.check_name != "freshness"]


def execute_all(instance: dg.DagsterInstance, asset: str) -> dg.ExecuteInProcessResult:
    """Run all checks without a day, like the button "Execute all" on the Checks tab."""
    job = build_defs(Settings.load()).resolve_implicit_global_asset_job_def()
    graph = build_defs(Settings.load()).resolve_asset_graph()
    keys = {key for key in graph.asset_check_keys if key.asset_key == dg.AssetKey(asset)}
    subset = job.get_subset(asset_selection=set(), asset_check_selection=keys)
    return subset.execute_in_process(instance=instance, raise_on_error=False)


def test_evaluation_in_a_backfill_targets_the_latest_materialization(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    # A backfill tags its runs with a range even if the range is only one day.
    result = materialize("processed_hmi", days=(FIRST, FIRST))
    found = evaluations(result)
    assert {(e.check_name, e.partition) for e in found} == {
        (name, FIRST) for name in ("coverage", "values", "disk", "flags")
    }
    (latest,) = built.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("processed_hmi"), asset_partitions=[FIRST]), limit=1
    ).records
    for evaluation in found:
        assert evaluation.target_materialization_data is not None
        assert evaluation.target_materialization_data.storage_id == latest.storage_id


def test_execute_all_checks_the_latest_materialized_day(built: dg.DagsterInstance) -> None:
    result = execute_all(built, "shards")
    assert result.success
    found = evaluations(result)
    dated = {e.check_name: e for e in found if e.partition == SECOND}
    assert dated.keys() == {"readable", "saturation", "drift"}
    assert all(e.passed for e in dated.values())
    # Dagster planned evaluations without a day. They are completed too, and their descriptions name
    # the day that was checked.
    undated = {e.check_name: e.description for e in found if e.partition is None}
    assert undated.keys() == dated.keys()
    assert all(str(text).startswith(SECOND) for text in undated.values())


def test_execute_all_without_a_day_explains_what_to_do(instance: dg.DagsterInstance) -> None:
    result = execute_all(instance, "processed_aia")
    assert not result.success
    (failed,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error is not None
    assert "processed_aia has no materialized day to check: launch a backfill" in error.message


def test_unchanged_day_is_not_read_again_unless_its_checks_are_run(
    built: dg.DagsterInstance,
    materialize: Materialize,
    findings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = findings(materialize("processed_hmi", day=FIRST))
    judged = Finding(passed=False, description="judged again")
    monkeypatch.setattr("sdoml_dagster.checks.processed.judge_values", lambda *_: judged)
    repeated = findings(materialize("processed_hmi", day=FIRST))
    for found in (before, repeated):
        assert found["processed_hmi.values", FIRST].passed
    old, new = (found["processed_hmi.values", FIRST] for found in (before, repeated))
    assert (old.description, old.metadata) == (new.description, new.metadata)
    alone = evaluations(execute_all(built, "processed_hmi"))
    assert any("judged again" in (found.description or "") for found in alone)
    monkeypatch.setattr("sdoml_dagster.checks.days.__version__", "next")
    upgraded = findings(materialize("processed_hmi", day=FIRST))
    assert upgraded["processed_hmi.values", FIRST].description == "judged again"
