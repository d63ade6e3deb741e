"""Splits are parsed, separated by guard gaps, and found by all readers."""

import json
import shutil
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
import yaml

from sdoml_core.errors import NormalizationError, SettingError
from sdoml_core.loader import SDOMLlite
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.release.splits import Period, parse_days, parse_guard, parse_splits
from sdoml_dagster.store.store import Store
from tests.sdoml_dagster.release.test_release import (
    FIRST,
    NAMES,
    build,
    contents,
    make,
    materialize,
    run_snippets,
    streamed,
)

SPLITS = "train=2024-03-01..2024-03-05,val=2024-03-06..2024-03-07,test=2024-03-08..2024-03-10"


@pytest.fixture(scope="session")
def fitted_to_train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ten days. Its constants are fitted to the first four days."""
    folder = tmp_path_factory.mktemp("splits")
    settings = build(folder, range(10))
    store = Store(str(folder))
    train = DayRange(FIRST, date(2024, 3, 4))
    freeze(store, fit_store(settings, store, days=train).normalization, replace=True)
    for number in range(10):
        pack_day(date(2024, 3, 1 + number), settings=settings, store=store, report=print)
    return folder


@pytest.fixture
def stored(fitted_to_train: Path, tmp_path: Path) -> Path:
    shutil.copytree(fitted_to_train, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2019", "2019-01-01", "2019-12-31"),
        ("2010..2018", "2010-01-01", "2018-12-31"),
        ("2020-02", "2020-02-01", "2020-02-29"),
        ("2020-02..2021-03-05", "2020-02-01", "2021-03-05"),
        ("2024-03-08", "2024-03-08", "2024-03-08"),
    ],
)
def test_periods_are_years_months_or_days(text: str, first: str, last: str) -> None:
    assert parse_days(text) == Period(date.fromisoformat(first), date.fromisoformat(last))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train", "must have the form train=2010..2018"),
        ("Train=2010", "lowercase name"),
        ("train=2010..2019,val=2019", r"train \(2010-01-01..2019-12-31\) and val .* overlap"),
        ("train=2019..2018", "ends before it starts"),
        ("train=2019-13", "not a year, month or day"),
        ("train=soon", "not a year, month or day"),
        ("", "contains no splits"),
    ],
)
def test_bad_splits_are_reported_in_one_line(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        parse_splits(text)


def test_guard_must_be_a_whole_number_of_days() -> None:
    assert [parse_guard(text) for text in ("2d", "2", "2 days", "0")] == [2, 2, 2, 0]
    with pytest.raises(SettingError, match="whole number of days"):
        parse_guard("12h")


def test_guard_that_leaves_a_split_without_days_is_rejected() -> None:
    with pytest.raises(SettingError, match="guard of 1 day leaves no days in split train"):
        parse_splits("train=2024-03-08,val=2024-03-09", guard="1d")


def test_guard_days_are_removed_from_the_first_split() -> None:
    splits = replace(parse_splits(SPLITS), guard_days=2)
    names = [
        (part.name if (part := splits.of(date(2024, 3, day))) else None) for day in range(1, 12)
    ]
    assert names == ["train"] * 3 + [None] * 4 + ["test"] * 3 + [None]
    splits = parse_splits(
        "train=2024-03-01..2024-03-02,test=2024-03-08,train=2024-03-11..2024-03-12", guard="3d"
    )
    assert splits.kept_ranges(splits.train) == (
        Period(date(2024, 3, 1), date(2024, 3, 2)),
        Period(date(2024, 3, 12), date(2024, 3, 12)),
    )


@pytest.mark.slow
def test_all_readers_find_the_same_splits(stored: Path) -> None:
    result = materialize(stored, name="split", splits=SPLITS, guard="1d")
    assert result.success
    folder = stored / "releases/split"
    listed = json.loads((folder / "splits.json").read_bytes())
    expected = {"train": range(1, 5), "val": range(6, 7), "test": range(8, 11)}
    assert list(listed["shards"]) == list(expected)
    assert listed["shards"]["train"] == [f"split-train-{n}.tar" for n in range(1, 5)]
    assert listed["constants"]["fitted_to"] == "train"
    ours = SDOMLlite(folder, channels=NAMES).split()
    assert list(ours) == list(expected)
    card = (folder / "README.md").read_text()
    hub = yaml.safe_load(card.split("---\n", 2)[1])["configs"][0]["data_files"]
    assert [item["split"] for item in hub] == list(expected)
    for name, days in expected.items():
        keys = {f"2024/03/{day:02d}" for day in days}
        assert {
            time[:10].replace("-", "/")
            for _, time in map(ours[name].__getitem__, range(len(ours[name])))
        } == keys
        (pattern,) = (item["path"] for item in hub if item["split"] == name)
        assert sorted(path.name for path in folder.glob(pattern)) == listed["shards"][name]
        samples = [s for shard in listed["shards"][name] for s in streamed(f"{folder}/{shard}")]
        assert {sample["__key__"][:10] for sample in samples} == keys
    assert "fitted to the `train` split only" in card
    assert run_snippets_of(folder) >= 4


def run_snippets_of(folder: Path) -> int:
    card = (folder / "README.md").read_text().replace('"split', '"sdoml-lite')
    (folder / "README.md").write_text(card)
    return run_snippets(folder)


def test_hugging_face_datasets_loads_the_splits_listed_in_the_card(stored: Path) -> None:
    make(stored, splits=parse_splits(SPLITS, guard="1d"), complete_only=True)
    folder = stored / "releases/sdoml-lite"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        datasets = pytest.importorskip("datasets")
        loaded = datasets.load_dataset(str(folder), streaming=True)
        found = {name: {s["__key__"][:10] for s in part} for name, part in loaded.items()}
    assert found == {
        "train": {f"2024/03/0{n}" for n in range(1, 5)},
        "val": {"2024/03/06"},
        "test": {"2024/03/08", "2024/03/09", "2024/03/10"},
    }


def test_constants_fitted_to_other_days_are_rejected_by_default(stored: Path) -> None:
    splits = parse_splits("train=2024-03-01..2024-03-03,test=2024-03-04..2024-03-10")
    with pytest.raises(NormalizationError, match=r"from 2024-03-01 to 2024-03-04.*--any-constants"):
        make(stored, splits=splits)
    done = make(stored, splits=splits, any_constants=True)
    assert done.description.fitted_to is None
    assert "also fitted to days outside the training split" in done.card


def test_splits_without_a_guard_keep_every_day(stored: Path) -> None:
    done = make(stored, splits=parse_splits(SPLITS))
    assert [len(split.shards) for split in done.description.splits] == [5, 2, 3]
    assert done.description.samples == 80


def test_release_without_splits_removes_the_old_splits_file(stored: Path) -> None:
    make(stored)
    plain = contents(stored / "releases/sdoml-lite")
    make(stored, splits=parse_splits(SPLITS))
    make(stored)
    assert contents(stored / "releases/sdoml-lite") == plain
