"""A second run of finished days keeps all files; changed inputs rebuild only dependent files."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sdoml_core.channels import CHANNELS
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.latest_events import latest_of_days
from sdoml_dagster.pipeline.degradation_table import load_degradation
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.pipeline.unchanged import is_finished
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from tests.support.runs import DAILY, FIRST, Materialize

PIXELS_AND_TABLES = ("processed/**/*.npy", "processed/**/*.parquet", "shards/**/*.*")


def identities(store: Path) -> dict[str, tuple[int, int]]:
    """Return the inode and the modification time of every derived file."""
    found = [path for pattern in PIXELS_AND_TABLES for path in store.glob(pattern)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def lines(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(result.run_id)]


@pytest.fixture
def store(environment: dict[str, str]) -> Path:
    return Path(environment["SDOML_STORE"])


def test_second_run_keeps_and_reports_every_file(
    built: dg.DagsterInstance, materialize: Materialize, store: Path
) -> None:
    before = identities(store)
    assert len(before) > 10
    result = materialize(*DAILY, day=FIRST)
    assert result.success
    assert identities(store) == before
    said = lines(result, built)
    for asset in ("processed_aia", "processed_hmi", "shards"):
        assert any(line.startswith(f"{asset} {FIRST}: unchanged") for line in said), asset


def test_second_run_keeps_the_picture_of_each_day(
    built: dg.DagsterInstance, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picture(asset: str) -> Any:
        event = latest_of_days(built, dg.AssetKey(asset), [str(FIRST)])[str(FIRST)]
        assert event.asset_materialization is not None
        return event.asset_materialization.metadata["contact_sheet"]

    assets = ("processed_aia", "processed_hmi", "shards")
    before = [picture(asset) for asset in assets]
    monkeypatch.setattr("sdoml_dagster.previews.inline_markdown", None)  # make drawing fail
    assert materialize(*DAILY, day=FIRST).success
    assert [picture(asset) for asset in assets] == before


@pytest.mark.parametrize(
    ("change", "rebuilt"),
    [
        ({"dtype": "float16"}, {"tar", "parquet"}),
        ({"max_missing_fraction": 0.04}, set()),  # processing again produces the same bytes
    ],
)
def test_changed_settings_rebuild_dependent_files(
    built: dg.DagsterInstance,
    materialize: Materialize,
    store: Path,
    change: dict[str, Any],
    rebuilt: set[str],
) -> None:
    before = identities(store)
    result = materialize("processed_aia", "processed_hmi", "shards", day=FIRST, **change)
    assert result.success
    changed = {path for path, identity in identities(store).items() if before[path] != identity}
    assert {path.rpartition(".")[2] for path in changed if "/shards/" in path} == rebuilt
    assert not any(path.endswith(".npy") for path in changed)  # files with the same bytes are kept
    unchanged_aia = f"processed_aia {FIRST}: unchanged"
    processed_again = not any(line.startswith(unchanged_aia) for line in lines(result, built))
    assert processed_again == ("max_missing_fraction" in change)


@pytest.mark.parametrize("artifact", ["processed", "shard"])
def test_damaged_file_is_rebuilt(
    built: dg.DagsterInstance, materialize: Materialize, store: Path, artifact: str
) -> None:
    pattern = (
        "processed/2024/03/08/AIA_0171.npy" if artifact == "processed" else "shards/2024/*08.tar"
    )
    (path,) = store.glob(pattern)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert materialize("processed_aia", "processed_hmi", "shards", day=FIRST).success
    assert path.read_bytes() == good


def test_day_is_finished_until_inputs_or_code_change(
    built: dg.DagsterInstance, store: Path
) -> None:
    settings, opened = Settings.load(), Store(str(store))
    graph = build_defs(settings).resolve_asset_graph()
    versions = {
        key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()
    }
    day = StoredDay(opened, date.fromisoformat(FIRST))
    degradation = load_degradation(settings, opened).sha256

    def finished(**changes: Any) -> bool:
        given: dict[str, Any] = {
            "code_versions": versions,
            "degradation": degradation,
            "constants": current_normalization(opened),
            "settings": settings,
        } | changes
        return is_finished(
            day,
            given["settings"],
            given["constants"],
            code_versions=given["code_versions"],
            degradation=given["degradation"],
        )

    assert finished()
    assert not finished(code_versions=versions | {"shards": "another"})
    assert not finished(code_versions=versions | {"processed_hmi": "2"})
    assert not finished(degradation="another table")
    assert not finished(settings=settings.model_copy(update={"dtype": "float16"}))
    assert not finished(settings=settings.model_copy(update={"cadence_minutes": 180}))
    opened.delete(layout.shard(day.day))
    assert not finished()
    assert finished(constants=None)  # before the first fit, a processed day counts as finished
    opened.delete(layout.frame_table(day.day, CHANNELS["HMI_M"].instrument))
    assert not finished(constants=None)
