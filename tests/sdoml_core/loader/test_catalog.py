"""Release indexes with inconsistent content are rejected."""

import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdoml_core.errors import DamagedFileError, DatasetError
from sdoml_core.loader import SDOMLlite
from sdoml_core.loader.storage.catalog import Catalog
from tests.support.synthetic_shards import CONSTANT, write_release

CHANNELS = ("AIA_0193", "HMI_M")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a release with one day, two channels and four samples."""
    return write_release(tmp_path_factory.mktemp("release"), 1, channels=CHANNELS, hours=1)


@pytest.fixture(scope="module")
def table(folder):
    return pq.read_table(folder / "index.parquet", read_dictionary=["shard"])


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def with_column(table, name, values):
    return table.set_column(table.schema.get_field_index(name), name, values)


def frames(**leaf):
    """Return a channel's column in which every frame has the given fields."""
    return pa.array([leaf] * 4)


def shards(*names):
    return pa.array([*names, *["sdoml-lite-001.tar"] * (4 - len(names))]).dictionary_encode()


def test_index_contains_frame_positions(table):
    catalog = Catalog(parquet(table))
    assert catalog.channels == CHANNELS
    assert catalog.constants["AIA_0193"] == {"constant": CONSTANT, "transform": "sqrt"}
    assert (len(catalog), catalog.resolution, catalog.dtype) == (4, 32, np.float32)
    assert (np.diff(catalog.offsets(CHANNELS), axis=1) > catalog.frame_bytes).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sdoml.pixels", None, "invalid metadata: 'sdoml.pixels'"),
        ("sdoml.shards", None, "invalid metadata: 'sdoml.shards'"),
        ("sdoml.channels", None, "invalid metadata: 'sdoml.channels'"),
        ("sdoml.normalization", None, "invalid metadata: 'sdoml.normalization'"),
        ("sdoml.pixels", "{", "invalid metadata"),
        ("sdoml.pixels", "[]", "invalid metadata"),
        ("sdoml.pixels", '{"dtype": "float32", "resolution": 1e999}', "invalid metadata"),
        (
            "sdoml.pixels",
            '{"dtype": "float32", "resolution": -1}',
            "invalid dtype or resolution: float32, -1",
        ),
        (
            "sdoml.pixels",
            '{"dtype": "float32", "resolution": 65536}',
            "invalid dtype or resolution: float32, 65536",
        ),
        (
            "sdoml.pixels",
            '{"dtype": ">f4", "resolution": 32}',
            "invalid dtype or resolution: >f4, 32",
        ),
        (
            "sdoml.pixels",
            '{"dtype": "object", "resolution": 32}',
            "invalid dtype or resolution: object, 32",
        ),
        ("sdoml.shards", "[[]]", "invalid metadata"),
        ("sdoml.shards", '[["../a.tar", 1]]', r"invalid shard name '\.\./a\.tar'"),
        ("sdoml.shards", '[["a.tar", NaN]]', "invalid metadata"),
        ("sdoml.shards", '[["a.tar", 1e999]]', "invalid metadata"),
        ("sdoml.shards", f'[["a.tar", {"9" * 30}]]', "invalid metadata"),
        ("sdoml.shards", "[]", "refers to a shard that it does not list"),
        ("sdoml.channels", "[]", "invalid metadata"),
        ("sdoml.channels", '{"AIA_0193": 250}', "invalid metadata"),
        ("sdoml.channels", '{"AIA_0193": {"constant": 250}}', "invalid metadata: 'transform'"),
        ("sdoml.channels", "[" * 100_000, "invalid metadata"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "absent",
)
def test_invalid_metadata_is_rejected(table, key, value, message):
    facts = {name.decode(): fact for name, fact in table.schema.metadata.items()}
    del facts[key]
    facts |= {key: value} if value else {}
    with pytest.raises(DamagedFileError, match=message):
        Catalog(parquet(table.replace_schema_metadata(facts)))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("slot", pa.array([1, 2, 3, 4]), "damaged: the times in the index have type int64"),
        ("shard", pa.array(["sdoml-lite-001.tar"] * 4), "is damaged"),
        ("shard", pa.array([0] * 4), "is damaged"),
        ("shard", pa.array([0] * 4).dictionary_encode(), "is damaged"),
        ("shard", shards("b.tar"), "refers to a shard that it does not list"),
        ("shard", shards(None), "refers to a shard that it does not list"),
    ],
    ids=["times", "text", "numbers", "dictionary of numbers", "unknown", "null"],
)
def test_invalid_samples_are_rejected(table, column, values, message):
    with pytest.raises(DamagedFileError, match=message):
        Catalog(parquet(with_column(table, column, values)))


@pytest.mark.parametrize("order", [[1, 0, 2, 3], [0, 0, 1, 2]])
def test_unsorted_or_duplicate_samples_are_rejected(table, order):
    with pytest.raises(DamagedFileError, match="not sorted by time"):
        Catalog(parquet(table.take(pa.array(order))))


@pytest.mark.parametrize("column", ["slot", "shard"])
def test_index_without_required_columns_is_rejected(table, column):
    with pytest.raises(DamagedFileError, match=f"damaged.*{column}"):
        Catalog(parquet(table.drop_columns([column])))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1] * 4), "lacks data_offset for AIA_0193"),
        (pa.array([[1]] * 4), "lacks data_offset for AIA_0193"),
        (frames(size=1), "lacks data_offset for AIA_0193"),
        (frames(data_offset="1"), "data_offset has type string"),
        (frames(data_offset=1.5), "data_offset has type double"),
        (frames(data_offset=511), "outside its shard"),
        (frames(data_offset=-2), "outside its shard"),
        (frames(data_offset=1 << 40), "outside its shard"),
    ],
    ids=["number", "list", "another leaf", "text", "fraction", "first block", "negative", "behind"],
)
def test_invalid_positions_are_rejected(table, values, message):
    catalog = Catalog(parquet(with_column(table, "AIA_0193", values)))
    with pytest.raises(DamagedFileError, match=message):
        catalog.offsets(["AIA_0193"])


def test_catalog_keeps_its_index_when_the_file_is_replaced(table, tmp_path):
    path = tmp_path / "index.parquet"
    path.write_bytes(parquet(table))
    catalog = Catalog(str(path))
    other = tmp_path / "other"
    other.write_bytes(parquet(table.slice(1)))
    other.replace(path)
    for kept in (catalog, pickle.loads(pickle.dumps(catalog))):
        assert len(kept.facts(["HMI_M"])["HMI_M"]) == 4
        assert len(kept.checksums(["HMI_M"])) == 4
    assert len(Catalog(str(path))) == 3


def test_index_overwritten_in_place_is_detected(table, tmp_path):
    path = tmp_path / "index.parquet"
    path.write_bytes(parquet(table))
    catalog = Catalog(str(path))
    path.write_bytes(parquet(table.slice(1)))
    for ask in (catalog.facts, catalog.checksums):
        with pytest.raises(DamagedFileError, match="overwritten since the dataset was opened"):
            ask(["HMI_M"])


def test_release_without_samples_is_empty(table, tmp_path):
    (tmp_path / "index.parquet").write_bytes(parquet(table.slice(0, 0)))
    with pytest.raises(DatasetError, match=f"the shards in {tmp_path} are empty"):
        SDOMLlite(tmp_path, CHANNELS)


def test_release_with_one_sample_has_a_cadence(table, folder, tmp_path):
    (tmp_path / "sdoml-lite-001.tar").hardlink_to(folder / "sdoml-lite-001.tar")
    (tmp_path / "index.parquet").write_bytes(parquet(table.slice(2, 1)))
    dataset = SDOMLlite(tmp_path, CHANNELS)
    assert "1 of 1 slots every 15 min, in 1 shard\n" in repr(dataset)
    assert dataset.coverage().frames == {"AIA_0193": (1,), "HMI_M": (1,)}


@pytest.mark.parametrize(("transform", "power"), [("sqrt", 2), ("linear", 1)])
def test_dn_units_invert_the_transform_in_the_index(table, folder, tmp_path, transform, power):
    facts = {name.decode(): fact.decode() for name, fact in table.schema.metadata.items()}
    facts["sdoml.channels"] = facts["sdoml.channels"].replace("sqrt", transform)
    (tmp_path / "sdoml-lite-001.tar").hardlink_to(folder / "sdoml-lite-001.tar")
    (tmp_path / "index.parquet").write_bytes(parquet(table.replace_schema_metadata(facts)))
    dn, level = SDOMLlite(tmp_path, CHANNELS, units="dn")[1][0]
    y, same = SDOMLlite(tmp_path, CHANNELS)[1][0]
    samples = (1024 / dn.shape[-1]) ** 2
    np.testing.assert_allclose(dn, y.numpy() ** power * CONSTANT / samples, rtol=1e-6)
    np.testing.assert_array_equal(level, same)
