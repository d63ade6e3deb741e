"""For folders without an index, an index is generated, saved, and updated after changes."""

import dataclasses
import json
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest

from sdoml_core.errors import DamagedFileError, DatasetError, NormalizationError
from sdoml_core.formats.merge_indexes import merge_releases
from sdoml_core.formats.parquet import open_parquet, read_columns, write_parquet
from sdoml_core.formats.release_index import consolidate
from sdoml_core.loader import SDOMLlite
from sdoml_core.loader.storage import open_folder
from tests.support.synthetic_shards import FIRST, VERSION, write_day, write_release


def days(count):
    return [FIRST + timedelta(days=number) for number in range(count)]


@pytest.fixture
def read(monkeypatch):
    """The names of the shards whose index or headers are read."""
    names = []
    original = open_folder._read_index

    def spy(files, shard):
        names.append(shard.tar.name)
        return original(files, shard)

    monkeypatch.setattr(open_folder, "_read_index", spy)
    return names


@pytest.mark.filterwarnings("ignore:the . shards in .* have no index")
@pytest.mark.parametrize("index", [True, False])
def test_generated_index_is_updated_incrementally(tmp_path, read, index):
    for day in days(3):
        write_day(tmp_path, day, index=index)
    first = SDOMLlite(tmp_path)
    assert len(read) == 3
    read.clear()
    assert SDOMLlite(tmp_path).times.tolist() == first.times.tolist()
    assert read == []

    write_day(tmp_path, FIRST + timedelta(days=3), index=index)  # a day is added
    write_day(tmp_path, FIRST, index=index, hours=2)  # a day is rebuilt
    (tmp_path / f"sdoml-lite-{FIRST + timedelta(days=1)}.tar").unlink()  # a day is removed
    (tmp_path / f"sdoml-lite-{FIRST + timedelta(days=1)}.parquet").unlink(missing_ok=True)
    changed = SDOMLlite(tmp_path)
    assert sorted(read) == ["sdoml-lite-2022-11-01.tar", "sdoml-lite-2022-11-04.tar"]
    assert len(changed) == 8 + 20 + 20
    for number in (0, 20, -1):
        changed[number]
    assert changed.reader.catalog.normalization_version == (VERSION if index else "")


def test_damaged_generated_index_is_rebuilt(tmp_path, read):
    write_day(tmp_path, FIRST)
    SDOMLlite(tmp_path)
    kept = tmp_path / open_folder.KEPT_INDEX
    for damage in (b"", b"PAR1 nonsense", kept.read_bytes()[:-9]):
        kept.write_bytes(damage)
        read.clear()
        assert len(SDOMLlite(tmp_path)) == 20
        assert len(read) == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sdoml.sources", "[1]"),
        ("sdoml.sources", "{"),
        ("sdoml.sources", "[" * 100_000),
        ("sdoml.shards", "{"),
        ("sdoml.kind", "shard"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize("grown", [False, True])
def test_generated_index_with_damaged_metadata_is_rebuilt(tmp_path, read, key, value, grown):
    write_day(tmp_path, FIRST)
    SDOMLlite(tmp_path)
    kept = tmp_path / open_folder.KEPT_INDEX
    table = read_columns(open_parquet(str(kept)))
    facts = {name.decode(): fact.decode() for name, fact in table.schema.metadata.items()}
    kept.write_bytes(write_parquet(table.replace_schema_metadata(facts | {key: value})))
    if grown:
        write_day(tmp_path, FIRST + timedelta(days=1))
    read.clear()
    assert len(SDOMLlite(tmp_path)) == 20 * (1 + grown)
    assert len(read) == 1 + grown


@pytest.fixture
def unprivileged():
    """Run the test as an unprivileged user, because root may write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # user ID of nobody
    yield
    os.seteuid(user)


def test_read_only_folder_can_be_read(unprivileged):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_day(folder, FIRST)
        folder.chmod(0o555)
        try:
            assert len(SDOMLlite(folder)) == 20
        finally:
            folder.chmod(0o755)


def test_index_stays_in_memory_if_it_cannot_be_saved(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("read-only file system")

    write_day(tmp_path, FIRST)
    monkeypatch.setattr(open_folder, "write_atomically", refuse)
    assert len(SDOMLlite(tmp_path)) == 20
    assert not (tmp_path / open_folder.KEPT_INDEX).exists()


def test_index_can_be_saved_in_another_folder(tmp_path):
    write_day(tmp_path / "shards", FIRST, index=False)
    SDOMLlite(tmp_path / "shards", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "shards" / open_folder.KEPT_INDEX).exists()
    assert len(list((tmp_path / "cache").rglob(open_folder.KEPT_INDEX))) == 1


def test_saved_index_stores_its_sources_as_json(tmp_path):
    write_day(tmp_path, FIRST)
    SDOMLlite(tmp_path)
    table = read_columns(open_parquet(str(tmp_path / open_folder.KEPT_INDEX)))
    assert json.loads(table.schema.metadata[b"sdoml.sources"])


def test_shard_without_its_index_is_skipped_with_a_warning(tmp_path):
    for day in days(2):
        write_day(tmp_path, day)
    (tmp_path / f"sdoml-lite-{days(2)[1]}.parquet").unlink()
    with pytest.warns(UserWarning, match=r"unlike the other shards: sdoml-lite-2022-11-02\.tar$"):
        dataset = SDOMLlite(tmp_path)
    assert len(dataset) == 20
    for number in range(2, 7):
        write_day(tmp_path, FIRST + timedelta(days=number), index=False, hours=1)
    with pytest.warns(UserWarning, match=r"other shards: (sdoml-lite-2022-11-0\d\.tar,? ){5}…$"):
        assert len(SDOMLlite(tmp_path)) == 20


def test_missing_indexes_cause_a_normalization_warning(tmp_path):
    for day in days(2):
        write_day(tmp_path, day, index=False, hours=1)
    for _ in range(2):  # the second call opens the saved index and causes the same warning
        with pytest.warns(UserWarning, match=r"the 2 shards in .* the same constants"):
            assert len(SDOMLlite(tmp_path)) == 8


def test_incomplete_release_is_rejected(tmp_path):
    write_day(tmp_path, FIRST, index=False)
    (tmp_path / "normalization.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"is an incomplete release: it has no index\.parquet"):
        SDOMLlite(tmp_path)


def test_index_of_another_shard_is_rejected(tmp_path):
    write_day(tmp_path, FIRST)
    path = tmp_path / f"sdoml-lite-{FIRST}"
    for suffix in (".tar", ".parquet"):
        path.with_suffix(suffix).rename(tmp_path / f"other{suffix}")
    with pytest.raises(DamagedFileError, match=r"other\.parquet .* a different shard, sdoml-lite"):
        SDOMLlite(tmp_path)


def test_error_names_the_damaged_day(tmp_path):
    for day in days(2):
        write_day(tmp_path, day)
    (tmp_path / f"sdoml-lite-{FIRST}.parquet").write_bytes(b"<html>")
    with pytest.raises(DamagedFileError, match=r"-01\.parquet in .*: not a Parquet.*; rebuild"):
        SDOMLlite(tmp_path)


def test_error_names_the_damaged_release_index(tmp_path):
    write_release(tmp_path, 1)
    (tmp_path / "index.parquet").write_bytes(b"<html>")
    with pytest.raises(DamagedFileError, match=r"^index\.parquet in .*; run make_release again$"):
        SDOMLlite(tmp_path)


def test_index_without_its_shard_is_reported(tmp_path):
    for day in days(2):
        write_day(tmp_path, day)
    (tmp_path / f"sdoml-lite-{FIRST}.tar").unlink()
    with pytest.warns(UserWarning, match=f"their shards are missing: sdoml-lite-{FIRST}.parquet$"):
        assert len(SDOMLlite(tmp_path)) == 20


def test_tilde_expands_to_the_home_folder(tmp_path, monkeypatch):
    write_day(tmp_path / "days", FIRST)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(SDOMLlite("~/days")) == 20


def test_empty_day_is_read(tmp_path):
    write_day(tmp_path, FIRST, hours=0)
    write_day(tmp_path, FIRST + timedelta(days=1))
    assert len(SDOMLlite(tmp_path)) == 20


def release_of(*indexes):
    return read_columns(open_parquet(consolidate(indexes)))


def test_merged_index_matches_a_full_consolidation(tmp_path):
    all_days = [write_day(tmp_path, day) for day in days(4)]
    old = release_of(*all_days[:3])
    keep = {all_days[0].shard, all_days[2].shard}
    merged = merge_releases(old, keep, release_of(all_days[1], all_days[3]))
    expected = release_of(*all_days)
    assert merged.to_pylist() == expected.to_pylist()
    assert merged.schema.metadata == expected.schema.metadata


def test_channel_is_removed_with_its_last_shard(tmp_path):
    one, two, three = days(3)
    wide = write_day(tmp_path, one, channels=["AIA_0171", "AIA_0335", "HMI_M"])
    narrow = [write_day(tmp_path, day, channels=["AIA_0171", "HMI_M"]) for day in (two, three)]
    merged = merge_releases(release_of(wide, narrow[0]), {narrow[0].shard}, release_of(narrow[1]))
    expected = release_of(*narrow)
    assert merged.schema.names == expected.schema.names
    assert merged.schema.metadata == expected.schema.metadata


def test_days_with_different_normalizations_are_not_merged(tmp_path):
    one = write_day(tmp_path, FIRST, version="aaaa")
    other = write_day(tmp_path, FIRST + timedelta(days=1), version="bbbb")
    message = f"versions aaaa, bbbb \\(first in {one.shard}, {other.shard}\\);"
    with pytest.raises(NormalizationError, match=message):
        merge_releases(release_of(one), {one.shard}, release_of(other))


def test_days_with_different_constants_are_not_merged(tmp_path, monkeypatch):
    one = write_day(tmp_path, FIRST)
    monkeypatch.setattr("tests.support.synthetic_shards.CONSTANT", 251.0)
    other = write_day(tmp_path, FIRST + timedelta(days=1))
    with pytest.raises(
        DamagedFileError, match=r"differ in the constant of AIA_0\d+: .*-01.tar.*-02.tar"
    ):
        merge_releases(release_of(one), {one.shard}, release_of(other))


def test_days_with_different_resolutions_are_not_merged(tmp_path):
    one = write_day(tmp_path, FIRST)
    other = write_day(tmp_path, FIRST + timedelta(days=1), side=16)
    with pytest.raises(
        DamagedFileError, match=r"differ in dtype or resolution: .*-01.tar.*-02.tar"
    ):
        merge_releases(release_of(one), {one.shard}, release_of(other))


def test_sample_in_two_shards_is_an_error(tmp_path):
    one = write_day(tmp_path, FIRST)
    again = dataclasses.replace(one, shard="again.tar")
    with pytest.raises(
        DamagedFileError, match=rf"sample {FIRST}T00:00:00 is in both {one.shard} and again.tar"
    ):
        merge_releases(release_of(one), {one.shard}, release_of(again))


@pytest.mark.parametrize("version", ["aaaa", VERSION])
def test_index_without_any_kept_shards_adds_no_samples(tmp_path, version):
    one = write_day(tmp_path, FIRST, version=version)
    other = write_day(tmp_path, FIRST + timedelta(days=1))
    merged = merge_releases(release_of(one), set(), release_of(other))
    assert merged.to_pylist() == release_of(other).to_pylist()
    empty = merge_releases(release_of(one), set(), release_of())
    assert (empty.num_rows, json.loads(empty.schema.metadata[b"sdoml.shards"])) == (0, [])
