"""The command in docs/operations.md that deletes old event logs keeps what Dagster needs."""

import os
import re
import subprocess
from pathlib import Path

import dagster as dg
import pytest

from tests.support.runs import DAILY, FIRST, SECOND, Materialize
from tests.support.staleness import stale

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
(COMMAND,) = re.findall(r"^find .* -delete$", PAGE, re.MULTILINE)
LONG_AGO = 1_600_000_000


@pytest.fixture
def shortened(built: dg.DagsterInstance, environment: dict[str, str]) -> dg.DagsterInstance:
    """An instance with two built days, whose event logs have been deleted because of their age."""
    folder = Path(environment["DAGSTER_HOME"], "history/runs")
    for path in folder.iterdir():
        os.utime(path, (LONG_AGO, LONG_AGO))
    runs = built.get_runs()
    assert all(built.all_logs(run.run_id) for run in runs)
    subprocess.run(["bash", "-c", COMMAND], check=True)
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
