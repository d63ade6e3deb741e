"""A second build reads only changed files and produces the same bytes as a new release."""

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from sdoml_core.formats import release_index
from sdoml_core.formats.ledger import FRAME_TABLE
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.release import build as publish
from sdoml_dagster.release import built_days, shards
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from tests.sdoml_dagster.release.test_release import (
    FIRST,
    build,
    contents,
    make,
    settings_for,
    write_processed,
)

RECORD = "cache/releases/sdoml-lite.json.z"
INDEX = "releases/sdoml-lite/index.parquet"
SUMS = "releases/sdoml-lite/SHA256SUMS"


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with six of seven days and 8 samples per day."""
    folder = tmp_path_factory.mktemp("days")
    build(folder, [0, 1, 2, 4, 5, 6], cadence_minutes=180)
    return folder


@pytest.fixture
def stored(origin: Path, tmp_path: Path) -> Path:
    shutil.copytree(origin, tmp_path / "store")
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def several_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small row groups, so that some end within a day."""
    monkeypatch.setattr(release_index, "GROUP_SAMPLES", 13)


@pytest.fixture(autouse=True)
def uncompressed_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not compress the picture. Compression would take longer than the rest of a release."""
    monkeypatch.setattr(publish, "png", lambda sheet: sheet.tobytes())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose daily indexes are decoded, and ``table`` for each frame table read."""
    names: list[str] = []
    decode, table = built_days.decode_index, type(FRAME_TABLE).read

    def decoded(data: bytes) -> Any:
        index = decode(data)
        names.append(index.shard.rsplit("/", 1)[-1])
        return index

    def table_read(self: Any, data: bytes, columns: Any) -> Any:
        names.append("table")
        return table(self, data, columns)

    monkeypatch.setattr(built_days, "decode_index", decoded)
    monkeypatch.setattr(type(FRAME_TABLE), "read", table_read)
    return names


def _settings(folder: Path, **changes: Any) -> Settings:
    return settings_for(folder, cadence_minutes=180, **changes)


def _pack(folder: Path, number: int, *, whole: bool = False) -> None:
    """Process and pack a day, with or without missing frames."""
    store, settings = Store(str(folder)), _settings(folder)
    day = FIRST + timedelta(days=number)
    write_processed(store, day, settings, whole=whole)
    pack_day(day, settings=settings, store=store, report=print)


def _add_last_day(folder: Path) -> None:
    _pack(folder, 7)


def _add_middle_day(folder: Path) -> None:
    _pack(folder, 3)


def _change_day(folder: Path) -> None:
    _pack(folder, 2, whole=True)


def _process_without_packing(folder: Path) -> None:
    write_processed(Store(str(folder)), FIRST, _settings(folder), whole=True)


def _remove_frame_table(folder: Path) -> None:
    (folder / layout.frame_table(FIRST, "AIA")).unlink()


def _remove_day(folder: Path) -> None:
    for path in (layout.shard(FIRST), layout.shard_index(FIRST)):
        (folder / path).unlink()


def _change_constants(folder: Path) -> None:
    store, settings = Store(str(folder)), _settings(folder, normalization="quantile:0.9")
    freeze(store, fit_store(settings, store).normalization, replace=True)
    for number in (0, 1, 2, 4, 5, 6):
        day = FIRST + timedelta(days=number)
        pack_day(day, settings=settings, store=store, report=print)


def _swap(folder: Path, name: str) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)


CHANGES: dict[str, Callable[[Path], None]] = {
    "nothing": lambda _: None,
    "a day added at the end": _add_last_day,
    "a day added in the middle": _add_middle_day,
    "a day changed": _change_day,
    "a day processed but not packed": _process_without_packing,
    "a frame table removed": _remove_frame_table,
    "a day removed": _remove_day,
    "other constants": _change_constants,
    "a damaged index of the release": lambda folder: _swap(folder, INDEX),
    "damaged sums": lambda folder: _swap(folder, SUMS),
    "a missing index of the release": lambda folder: (folder / INDEX).unlink(),
    "a damaged record": lambda folder: _swap(folder, RECORD),
    "an empty record": lambda folder: (folder / RECORD).write_bytes(b""),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_second_build_matches_a_new_release_byte_for_byte(
    stored: Path, change: Callable[[Path], None]
) -> None:
    make(stored, _settings(stored))
    change(stored)
    make(stored, _settings(stored))
    incremental = contents(stored / "releases/sdoml-lite")
    assert incremental == _built_from_nothing(stored)


def _built_from_nothing(
    folder: Path, request: dict[str, Any] | None = None, **settings: Any
) -> dict[str, bytes]:
    for name in ("cache", "releases"):
        shutil.rmtree(folder / name)
    make(folder, _settings(folder, **settings), **(request or {}))
    return contents(folder / "releases/sdoml-lite")


def test_second_build_with_new_shards_matches_a_new_release_byte_for_byte(stored: Path) -> None:
    options: dict[str, Any] = {"complete_only": True, "days_per_shard": 2}
    for name in ("a day changed", "a day added at the end", "a damaged index of the release"):
        make(stored, _settings(stored), **options)
        CHANGES[name](stored)
        make(stored, _settings(stored), **options)
        incremental = contents(stored / "releases/sdoml-lite")
        assert incremental == _built_from_nothing(stored, options)


def test_second_build_with_other_options_matches_a_new_release_byte_for_byte(stored: Path) -> None:
    make(stored, _settings(stored))
    options: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"days_per_shard": 3}, {}),
        ({"complete_only": True}, {}),
        ({"encoding": "compact"}, {}),
        ({"days": DayRange(date(2024, 3, 2), date(2024, 3, 9))}, {}),
        ({}, {"end": "2024-03-06"}),
        ({}, {"channels": ("AIA_0171", "HMI_M")}),
    ]
    for request, settings in options:
        make(stored, _settings(stored, **settings), **request)
        incremental = contents(stored / "releases/sdoml-lite")
        assert incremental == _built_from_nothing(stored, request, **settings)


@pytest.mark.parametrize("end", ["2024-03-08", None])
def test_build_with_one_more_day_reads_only_that_day(
    stored: Path, read: list[str], end: str | None
) -> None:
    make(stored, _settings(stored, end=end))
    _pack(stored, 7)
    read.clear()
    later = None if end is None else "2024-03-09"
    make(stored, _settings(stored, end=later))
    new, first = "sdoml-lite-2024-03-08.tar", "sdoml-lite-2024-03-01.tar"
    # The first day is read because the card names its first member.
    assert set(read) == {new, first, "table"}
    assert read.count("table") == 2


def test_build_after_a_kill_reads_only_changed_files(
    stored: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(stored, _settings(stored))
    _pack(stored, 7)
    write = Store.write

    def killed(self: Store, path: str, data: bytes) -> None:
        if path.endswith("README.md"):
            raise KeyboardInterrupt
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            make(stored, _settings(stored))
    read.clear()
    make(stored, _settings(stored))
    assert {name[-14:-4] for name in read if name != "table"} == {"2024-03-01", "2024-03-08"}


def test_shards_of_several_days_are_not_written_again(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(stored, _settings(stored), days_per_shard=2)
    _pack(stored, 3)
    written: list[str] = []
    rewrite = shards.ShardMaker._rewrite

    def counted(self: shards.ShardMaker, path: str, plan: shards.ShardPlan) -> Any:
        written.append(plan.name)
        return rewrite(self, path, plan)

    monkeypatch.setattr(shards.ShardMaker, "_rewrite", counted)
    make(stored, _settings(stored), days_per_shard=2)
    assert sorted(written) == ["sdoml-lite-2.tar", "sdoml-lite-3.tar"]
