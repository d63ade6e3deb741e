"""Round trips of indexes, and rejection of inconsistent indexes."""

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.formats import release_index
from sdoml_core.formats.index import INDEX_SCHEMA, Index, decode_index, encode_index, read_frames
from sdoml_core.formats.parquet import open_parquet, read_columns
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard import FrameFacts, ShardWriter

DAY = datetime(2024, 3, 8, tzinfo=UTC)


def summary_of(day=DAY, names=("AIA_0193", "HMI_M"), *, count=3, side=8, constant=5.0):
    writer = ShardWriter(io.BytesIO())
    for number in range(count):
        slot = day + number * timedelta(minutes=15)
        for name in names:
            facts = FrameFacts(
                observed=slot - timedelta(seconds=3),
                exposure=2.9,
                quality=0x40000000,
                constant=constant,
                transform="sqrt",
            )
            writer.add(slot, CHANNELS[name], np.full((side, side), 0.5, np.float32), facts)
    return writer.close()


def encoded(table=None, *, version="v1", shard="a.tar", **options) -> bytes:
    summary = summary_of(**options)
    return encode_index(
        summary.table if table is None else table,
        shard=shard,
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version=version,
    )


def index_of(shard="a.tar", **options) -> Index:
    return decode_index(encoded(shard=shard, **options))


def release_of(*indexes: Index) -> pa.Table:
    return read_columns(open_parquet(consolidate(indexes)))


def test_index_round_trips():
    summary = summary_of()
    index = index_of(shard="2024/sdoml-lite-2024-03-08.tar", version="abc")
    assert index.table.equals(summary.table)
    assert index.shard == "2024/sdoml-lite-2024-03-08.tar"
    assert (index.shard_bytes, index.shard_sha256) == (summary.bytes, summary.sha256)
    assert index.normalization_version == "abc"
    assert index.table["quality"][0].as_py() == 0x40000000


def test_same_rows_produce_the_same_bytes():
    assert encoded() == encoded()


def test_empty_day_has_an_index():
    assert index_of(count=0).table.equals(INDEX_SCHEMA.empty_table())


@pytest.mark.parametrize("data", [b"", b"PAR1", b"<html>not found</html>", bytes(1000)])
def test_bytes_that_are_not_an_index_are_rejected(data):
    with pytest.raises(DamagedFileError, match="not a Parquet file"):
        decode_index(data)


def test_table_without_index_columns_is_rejected():
    sink = io.BytesIO()
    metadata = {"sdoml.kind": "shard", "sdoml.format": "1"}
    pq.write_table(pa.table({"slot": [1]}).replace_schema_metadata(metadata), sink)
    with pytest.raises(DamagedFileError, match="missing columns: channel, member, offset"):
        decode_index(sink.getvalue())


@pytest.mark.parametrize(
    ("column", "type_"), [("crc32", pa.int64()), ("slot", pa.timestamp("us", "UTC"))]
)
def test_columns_with_wrong_types_are_rejected(column, type_):
    raw = read_columns(open_parquet(encoded()))
    place = raw.schema.get_field_index(column)
    field = raw.schema.field(column).with_type(type_)
    sink = io.BytesIO()
    pq.write_table(raw.set_column(place, field, raw[column].cast(type_)), sink)
    with pytest.raises(DamagedFileError, match="its columns have the wrong types"):
        decode_index(sink.getvalue())


def test_null_in_a_required_column_is_rejected():
    raw = read_columns(open_parquet(encoded()))
    place = raw.schema.get_field_index("crc32")
    sink = io.BytesIO()
    values = pa.array([None] * len(raw), pa.uint32())
    pq.write_table(raw.set_column(place, "crc32", values), sink)
    with pytest.raises(DamagedFileError, match="its columns have the wrong types"):
        decode_index(sink.getvalue())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sdoml.shard", None),
        ("sdoml.shard_bytes", None),
        ("sdoml.shard_bytes", "many"),
        ("sdoml.shard_sha256", None),
        ("sdoml.normalization", None),
    ],
)
def test_index_without_shard_metadata_is_rejected(key, value):
    raw = read_columns(open_parquet(encoded()))
    facts = {name.decode(): fact.decode() for name, fact in raw.schema.metadata.items()}
    del facts[key]
    facts |= {key: value} if value else {}
    sink = io.BytesIO()
    pq.write_table(raw.replace_schema_metadata(facts), sink)
    with pytest.raises(DamagedFileError, match=f"index cannot be read: .*{value or key}"):
        decode_index(sink.getvalue())


@pytest.mark.parametrize("claimed", ["-1", "9" * 30])
@pytest.mark.parametrize("count", [0, 3])
def test_impossible_shard_size_is_rejected(claimed, count):
    data = encode_index(
        summary_of(count=count).table,
        shard="a.tar",
        shard_bytes=int(claimed),
        shard_sha256="0" * 64,
        normalization_version="v1",
    )
    with pytest.raises(
        DamagedFileError,
        match=rf"index of a\.tar states an impossible shard size of {claimed} bytes",
    ):
        decode_index(data)


def test_flipped_bit_in_a_page_is_rejected():
    data = bytearray(encoded())
    place = data.index(b"\x28\xb5\x2f\xfd") + 12  # flip a bit within the first compressed page
    data[place] ^= 1
    with pytest.raises(DamagedFileError, match="cannot be read"):
        decode_index(bytes(data))


def test_frames_are_read_from_the_index_as_slots_and_channels():
    slots = [DAY, DAY + timedelta(minutes=15)]
    assert read_frames(encoded(count=2)) == {
        (slot, name) for slot in slots for name in ("AIA_0193", "HMI_M")
    }


def test_unknown_format_version_is_rejected():
    table = summary_of().table.replace_schema_metadata({"sdoml.kind": "shard", "sdoml.format": "9"})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    with pytest.raises(DamagedFileError, match="found kind shard in format 9"):
        decode_index(sink.getvalue())


@pytest.mark.parametrize(
    "shard",
    ["/etc/passwd.tar", "../a.tar", "2024/../a.tar", "x/a.tar", "a.zip", ".a.tar", "a\n.tar", ""],
)
def test_shard_outside_the_folder_is_rejected(shard):
    with pytest.raises(DamagedFileError, match="invalid shard name"):
        index_of(shard=shard)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("member", "../../etc/passwd", "has an invalid member name"),
        ("member", "2024/03/08/0015.HMI_M.npy", "instead of"),
        ("channel", "AIA_0195", "has an invalid member name"),
        ("offset", 0, "outside the shard"),
        ("offset", 1 << 62, "outside the shard"),
        ("offset", -1, "outside the shard"),
        ("size", 1 << 62, "outside the shard"),
        ("size", -(1 << 62), "outside the shard"),
        ("data_offset", 100, "outside the shard"),
        ("dtype", "object", "unknown dtype"),
        ("resolution", 60000, "outside the shard"),
        ("resolution", -1, "unknown dtype or resolution"),
        ("slot", DAY + timedelta(minutes=15), "instead of"),
    ],
)
def test_inconsistent_rows_are_rejected(column, value, message):
    rows = summary_of().table.to_pylist()
    rows[0][column] = value
    with pytest.raises(DamagedFileError, match=message):
        decode_index(encoded(pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)))


def test_duplicate_frame_is_rejected():
    table = summary_of().table
    with pytest.raises(DamagedFileError, match="twice"):
        decode_index(encoded(pa.concat_tables([table, table.slice(0, 1)])))


def test_impossible_row_count_is_rejected_before_allocation(monkeypatch):
    monkeypatch.setattr("sdoml_core.formats.index.MAX_ROWS_OF_A_DAY", 3)
    with pytest.raises(DamagedFileError, match="impossible size: 6 rows"):
        index_of()


def test_release_has_one_row_per_sample_and_one_struct_per_channel():
    days = [DAY, DAY + timedelta(days=1)]
    indexes = [
        index_of("sdoml-lite-1.tar", day=days[0]),
        index_of("sdoml-lite-2.tar", day=days[1], names=("HMI_M",)),
    ]
    table = release_of(*indexes)
    assert table.column_names == ["slot", "shard", "AIA_0193", "HMI_M"]
    rows = table.to_pylist()
    assert [row["shard"] for row in rows] == ["sdoml-lite-1.tar"] * 3 + ["sdoml-lite-2.tar"] * 3
    assert [row["AIA_0193"] is None for row in rows] == [False] * 3 + [True] * 3
    long = [row for index in indexes for row in index.table.to_pylist()]
    for row in long:
        sample = next(sample for sample in rows if sample["slot"] == row["slot"])
        assert sample[row["channel"]] == {key: row[key] for key in sample[row["channel"]]}


def test_samples_are_sorted_by_time_not_by_shard_name():
    late = index_of("a.tar", day=DAY + timedelta(days=5))
    early = index_of("b.tar", day=DAY)
    slots = release_of(late, early)["slot"].to_pylist()
    assert slots == sorted(slots)


def test_empty_days_and_empty_releases_are_valid():
    assert release_of().num_rows == 0
    assert release_of(index_of("a.tar", count=0), index_of("b.tar")).num_rows == 3


def test_index_tables_are_concatenated_in_small_batches(monkeypatch):
    days = [
        index_of(f"{number}.tar", day=DAY + timedelta(hours=number), names=names)
        for number, names in enumerate([("AIA_0193", "HMI_M"), ("AIA_0171",), ("HMI_M",)] * 3)
    ]
    expected = consolidate(days)
    collected = {"_join": [], "_collected": []}

    def counted(name, parts):
        original = getattr(release_index._Samples, name)

        def count(samples):
            collected[name].append(len(getattr(samples, parts)))
            return original(samples)

        monkeypatch.setattr(release_index._Samples, name, count)

    counted("_join", "_frames")
    counted("_collected", "_ready")
    monkeypatch.setattr(release_index, "_PARTS", 2)
    assert consolidate(days) == expected
    assert max(collected["_join"]) == max(collected["_collected"]) == 2
    monkeypatch.setattr(release_index, "_FRAMES", 1)
    collected["_join"].clear()
    assert consolidate(days) == expected
    assert max(collected["_join"]) == 1


def test_same_sample_in_two_batches_is_rejected(monkeypatch):
    monkeypatch.setattr(release_index, "_PARTS", 1)
    with pytest.raises(DamagedFileError, match=r"is in both a\.tar and b\.tar"):
        release_of(index_of("a.tar"), index_of("b.tar"))


def test_mixed_normalizations_are_rejected():
    days = [
        index_of(f"{name}.tar", day=DAY + timedelta(number), version=version)
        for number, (name, version) in enumerate(zip("abcd", ("v2", "v1", "v2", "v1"), strict=True))
    ]
    message = r": versions v1, v2 \(first in b\.tar, a\.tar\); "
    with pytest.raises(NormalizationError, match=message):
        release_of(*days)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"side": 16}, r"differ in resolution: 8 \(a.tar\), 16 \(b.tar\)"),
        ({"constant": 6.0}, "differ in the constant of AIA_0193"),
        ({"day": DAY}, "is in both a.tar and b.tar"),
    ],
)
def test_incompatible_shards_are_rejected(other, message):
    other = index_of("b.tar", **{"day": DAY + timedelta(1)} | other)
    with pytest.raises(DamagedFileError, match=message):
        release_of(index_of("a.tar"), other)


def test_frame_outside_the_shard_is_rejected():
    table = summary_of().table
    last = table.to_pylist()[-1]
    end = last["offset"] + last["size"]

    def claiming(shard_bytes):
        return encode_index(
            table,
            shard="a.tar",
            shard_bytes=shard_bytes,
            shard_sha256="0" * 64,
            normalization_version="v1",
        )

    assert decode_index(claiming(end)).shard_bytes == end
    with pytest.raises(DamagedFileError, match="outside the shard"):
        decode_index(claiming(end - 1))
