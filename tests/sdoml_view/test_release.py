"""Datasets in the viewer: metadata from the index, unusual datasets, and failing datasets."""

import queue
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests

from sdoml_core.errors import DatasetError
from sdoml_core.formats import release_index
from sdoml_core.loader.storage import remote
from sdoml_view import app
from sdoml_view.coverage import read_calendar
from sdoml_view.release import Release
from tests.support.range_server import serving_ranges
from tests.support.synthetic_shards import FIRST, write_day, write_release
from tests.support.viewer import CHANNELS, SIDE, make_release, serving, viewer_facts

NOON = "2022-11-01T01:15:00"
QUERIES: dict[str, dict[str, object]] = {
    "dataset": {},
    "calendar": {},
    "refresh": {},
    "slots": {"start": "2022-11-01", "end": "2022-11-02"},
    "frames": {"t": NOON},
    "pixel": {"t": NOON, "x": 30, "y": 30},
    "overlay": {"t": NOON},
    "curves": {"start": "2022-11-01", "end": "2022-11-02"},
    "movie": {"start": NOON, "end": "2022-11-01T01:45:00", "size": 64, "format": "webp"},
    "fits": {"t": NOON, "channels": "HMI_M"},
}


def answers(viewer: str) -> dict[str, requests.Response]:
    return {
        path: requests.get(f"{viewer}api/{path}", params=query, timeout=60)
        for path, query in QUERIES.items()
    }


def test_metadata_is_read_by_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_index, "GROUP_SAMPLES", 10)
    write_release(tmp_path, 2, channels=CHANNELS, side=SIDE, facts_of=viewer_facts)
    release = Release(tmp_path)
    groups = release.catalog.row_groups()
    assert len(groups) > 2
    assert [row for group in groups for row in group] == list(range(len(release.catalog)))
    whole = release.catalog.facts(CHANNELS)
    for row in range(len(release.catalog)):
        for name in CHANNELS:
            info = release.info(row, name)
            assert info.observed == whole[name]["observed"][row].as_py()
            assert info.exposure == whole[name]["exposure"][row].as_py()
            assert info.flags == (whole[name]["flags"][row].as_py() or 0)


@pytest.mark.parametrize(
    "options",
    [
        {"channels": ["HMI_M"]},
        {"channels": ["AIA_0171", "HMI_M"], "encoding": "compact"},
        {"channels": ["HMI_M"], "slots": 1},
    ],
    ids=["one channel", "compact", "one sample"],
)
def test_all_views_work_for_unusual_datasets(tmp_path: Path, options: dict[str, Any]) -> None:
    slots = options.pop("slots", None)
    write_day(tmp_path, FIRST, side=SIDE, hours=2, **options)
    if slots:
        only_slot(tmp_path)
    with serving(tmp_path) as viewer:
        replies = answers(viewer)
    assert {path: reply.status_code for path, reply in replies.items()} == dict.fromkeys(
        QUERIES, 200
    )
    assert len(replies["frames"].content) == len(options["channels"]) * SIDE**2
    assert replies["dataset"].json()["samples"] == (slots or 8)


def only_slot(folder: Path) -> None:
    """Keep only the sample at `NOON` in a day's index."""
    (path,) = folder.glob("*.parquet")
    table = pq.read_table(path)
    keep = [time.isoformat()[:19] == NOON for time in table["slot"].to_pylist()]
    pq.write_table(table.filter(pa.array(keep)), path)


def test_dataset_without_samples_is_an_error(tmp_path: Path) -> None:
    write_day(tmp_path, FIRST, hours=0)
    with pytest.raises(DatasetError, match="no samples"):
        Release(tmp_path)


def test_requests_for_a_deleted_dataset_get_error_messages(tmp_path: Path) -> None:
    folder = make_release(tmp_path / "sun")
    with serving(folder) as viewer:
        shutil.rmtree(folder)
        replies = answers(viewer)
    failed = {path: reply.json()["error"] for path, reply in replies.items() if not reply.ok}
    assert set(failed) == {"refresh", "frames", "pixel", "curves", "movie", "fits"}
    assert all(str(folder) in message for message in failed.values())


def test_viewer_recovers_after_the_remote_server_fails(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.01)
    with serving_ranges(release) as server, serving(server.url) as viewer:
        server.faults = ["reset"] * 20
        reply = requests.get(f"{viewer}api/frames", params={"t": NOON}, timeout=60)
        assert reply.status_code == 500
        assert "sdoml-lite-001.tar" in reply.json()["error"]
        server.faults = []
        assert requests.get(f"{viewer}api/frames", params={"t": NOON}, timeout=60).ok


@pytest.mark.parametrize(
    "values",
    [
        {"expected": 1 << 40},
        {"expected": float("inf"), "ok": 1.0},
        {"ok": "<script>"},
        {"day": datetime(2022, 11, 1, tzinfo=UTC)},
        {"day": None},
    ],
)
def test_damaged_coverage_table_is_replaced_by_counts(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    write_release(tmp_path, 1, channels=["AIA_0171"], hours=2)
    row = {"day": FIRST, "channel": "AIA_0171", "expected": 24, "ok": 20} | values
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "coverage.parquet")
    calendar = read_calendar(Release(tmp_path))
    assert calendar.first == FIRST
    assert calendar.found.tolist() == [[8]]


def test_movie_stops_when_the_browser_disconnects(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: queue.Queue[str] = queue.Queue()
    encode = app.movie_bytes

    def recorded(*arguments: Any, **options: Any) -> bytes:
        try:
            data = encode(*arguments, **options)
        except DatasetError as error:
            ends.put(str(error))
            raise
        ends.put("complete")
        return data

    monkeypatch.setattr(app, "movie_bytes", recorded)
    monkeypatch.setattr(app, "POLL", 0.02)
    # 72 frames of 2048 × 2048 take at least two seconds.
    query = {"start": "2022-11-01", "end": "2022-11-04", "size": 1024}
    with serving(release) as viewer:
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"{viewer}api/movie", params=query, timeout=(60, 0.3))
        assert ends.get(timeout=60) == "the browser closed the connection"
