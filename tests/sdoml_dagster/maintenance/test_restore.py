"""Lost parts of a store can be rebuilt with the same bytes, as docs/operations.md describes."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from sdoml_dagster.settings.model import Settings
from sdoml_demo.server import Archive
from tests.support.runs import DAILY, FIRST, SECOND, Materialize, run_assets

RAW, PROCESSED = DAILY[:2], DAILY[2:4]


@pytest.fixture
def root(settings: Settings) -> Path:
    return Path(settings.store)


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("lost", "assets"),
    [
        ("raw", RAW),
        ("processed", (*RAW, *PROCESSED)),
        ("shards", ("shards",)),
        ("processed", PROCESSED),
    ],
    ids=["raw", "processed by ingest", "shards", "processed"],
)
def test_lost_folder_is_rebuilt_with_the_same_bytes(
    built: dg.DagsterInstance,
    materialize: Materialize,
    root: Path,
    lost: str,
    assets: tuple[str, ...],
) -> None:
    before = snapshot(root)
    shutil.rmtree(root / lost)
    for day in (FIRST, SECOND):
        assert materialize(*assets, day=day).success
    assert snapshot(root) == before


def test_lost_constants_are_restored_from_a_release(
    built: dg.DagsterInstance, materialize: Materialize, root: Path
) -> None:
    assert materialize("release").success
    before = snapshot(root)
    (version,) = (p.name for p in (root / "normalization").glob("*.json") if p.stem != "current")
    shutil.rmtree(root / "normalization")
    assert not materialize("shards", day=FIRST).success
    (root / "normalization").mkdir()
    for name in (version, "current.json"):
        shutil.copy(root / "releases/sdoml-lite/normalization.json", root / "normalization" / name)
    assert materialize("shards", day=FIRST).success
    assert materialize("release").success
    assert snapshot(root) == before


def test_lost_constants_are_refitted_to_the_same_days(
    built: dg.DagsterInstance, materialize: Materialize, root: Path
) -> None:
    before = snapshot(root / "normalization")
    shutil.rmtree(root / "normalization")
    config = {"normalization_stats": {"config": {"last_day": FIRST}}}
    assert materialize("normalization_stats", config=config).success
    assert snapshot(root / "normalization") == before


def test_rebuilding_a_lost_database_makes_no_requests(
    built: dg.DagsterInstance, archive: Archive, root: Path, tmp_path: Path
) -> None:
    before = snapshot(root)
    home = tmp_path / "another home"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as empty:
        asked = len(archive.log.requests)
        assert run_assets(empty, *DAILY, day=SECOND).success
        assert len(archive.log.requests) == asked
        assert empty.get_materialized_partitions(dg.AssetKey("shards")) == {SECOND}
    assert snapshot(root) == before


def test_lost_constants_are_not_refitted_implicitly(
    built: dg.DagsterInstance, materialize: Materialize, root: Path
) -> None:
    shutil.rmtree(root / "normalization")
    before = snapshot(root)
    result = materialize(*DAILY, "normalization_stats", day=FIRST)
    assert not result.success
    (failure,) = result.filter_events(lambda event: event.is_step_failure)
    assert "is missing, but there are shards" in str(failure.step_failure_data.error)
    assert snapshot(root) == before
