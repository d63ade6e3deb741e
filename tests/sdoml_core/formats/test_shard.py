"""Shards: the bytes depend only on the frames, and the reader validates everything."""

import dataclasses
import hashlib
import io
import tarfile
import zlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.members import member_name, parse_member_name
from sdoml_core.formats.shard import FrameFacts, ShardSummary, ShardWriter
from sdoml_core.formats.shard_scan import scan_shard

MIDNIGHT = datetime(2024, 3, 8, tzinfo=UTC)
PLACE = ("offset", "size", "data_offset", "dtype", "resolution")
NAMES = ("AIA_0193", "AIA_1600", "HMI_M")


class OneWay:
    """A file that supports only sequential writes."""

    def __init__(self):
        self.parts = []

    def write(self, data):
        self.parts.append(bytes(data))


def pixels(slot, name, side=16, dtype="float32"):
    seed = [slot.hour, slot.minute, list(CHANNELS).index(name)]
    return np.random.default_rng(seed).random((side, side)).astype(dtype)


def slots(count=4):
    return [MIDNIGHT + number * timedelta(minutes=15) for number in range(count)]


def write(count=4, *, dtype="float32", case="upper", side=16) -> tuple[bytes, ShardSummary]:
    file = OneWay()
    writer = ShardWriter(file, dtype=dtype, case=case)
    for slot in slots(count):
        for name in NAMES:
            facts = FrameFacts(observed=slot, exposure=2.0, constant=3.0, transform="sqrt")
            writer.add(slot, CHANNELS[name], pixels(slot, name, side, dtype), facts)
    summary = writer.close()
    return b"".join(file.parts), summary


def test_same_frames_produce_the_same_bytes():
    assert write()[0] == write()[0]


def test_bytes_match_the_recorded_hash():
    # If this hash changes, so does every published shard. That needs a new format version.
    file = OneWay()
    writer = ShardWriter(file)
    frame = np.arange(16, dtype=np.float32).reshape(4, 4)
    writer.add(MIDNIGHT, CHANNELS["HMI_M"], frame, FrameFacts())
    summary = writer.close()
    assert summary.sha256 == hashlib.sha256(b"".join(file.parts)).hexdigest()
    assert summary.sha256 == "f9fb2ba81d488eac86d767d64e6e65c9d9482298d82699e1a3dbfa97d348f867"


def test_members_are_sorted_ustar_entries_with_fixed_metadata():
    data, summary = write()
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        names = [member.name for member in members]
        assert names == sorted(names)
        assert names[1] == "2024/03/08/0000.AIA_1600.npy"
        facts = {(m.type, m.mode, m.uid, m.gid, m.mtime, m.uname, m.gname) for m in members}
        assert facts == {(tarfile.REGTYPE, 0o644, 0, 0, 0, "", "")}
        assert archive.pax_headers == {}
        for member in members:
            slot, channel = parse_member_name(member.name)
            frame = np.load(io.BytesIO(archive.extractfile(member).read()))
            np.testing.assert_array_equal(frame, pixels(slot, channel.name))
    assert len(data) % tarfile.RECORDSIZE == 0
    assert data.endswith(bytes(1024))
    assert summary.bytes == len(data)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_index_rows_point_to_the_pixels(dtype):
    data, summary = write(dtype=dtype)
    for row in summary.table.to_pylist():
        raw = data[row["data_offset"] : row["offset"] + row["size"]]
        expected = pixels(row["slot"], row["channel"], dtype=dtype)
        np.testing.assert_array_equal(np.frombuffer(raw, dtype).reshape(16, 16), expected)
        assert zlib.crc32(raw) == row["crc32"]
        np.testing.assert_array_equal(np.load(io.BytesIO(data[row["offset"] :])), expected)


def test_day_without_frames_is_a_valid_empty_tar():
    data, summary = write(0)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getmembers() == []
    assert scan_shard(io.BytesIO(data)) == []
    assert summary.table.num_rows == 0


def test_frames_out_of_order_or_with_a_different_shape_are_rejected():
    writer = ShardWriter(OneWay())
    writer.add(MIDNIGHT, CHANNELS["HMI_M"], np.zeros((4, 4), np.float32), FrameFacts())
    for name in ("HMI_M", "AIA_0094"):
        with pytest.raises(ValueError, match="members must be added in order"):
            writer.add(MIDNIGHT, CHANNELS[name], np.zeros((4, 4), np.float32), FrameFacts())
    for wrong in (np.zeros((4, 4)), np.zeros((4, 5), np.float32), np.zeros(4, np.float32)):
        with pytest.raises(ValueError, match="square float32"):
            writer.add(MIDNIGHT + timedelta(1), CHANNELS["HMI_M"], wrong, FrameFacts())


@pytest.mark.parametrize("dtype", ["float64", "int16"])
def test_unsupported_dtypes_are_rejected(dtype):
    with pytest.raises(ValueError, match=f"float32 or float16, not {dtype}"):
        ShardWriter(OneWay(), dtype=dtype)


def test_copied_frames_have_the_same_bytes():
    data, summary = write()
    file = OneWay()
    writer = ShardWriter(file)
    writer.copy(io.BytesIO(data), summary.table)
    copied = writer.close()
    assert b"".join(file.parts) == data
    assert copied.table.equals(summary.table)


def test_copy_detects_altered_pixels():
    data, summary = write()
    altered = bytearray(data)
    altered[summary.table["data_offset"][3].as_py() + 5] ^= 1
    with pytest.raises(DamagedFileError, match=r"0015\.AIA_0193\.npy do not match the index"):
        ShardWriter(OneWay()).copy(io.BytesIO(altered), summary.table)


def test_copy_rejects_a_different_dtype():
    data, summary = write(1, dtype="float16")
    with pytest.raises(DamagedFileError, match=r"npy is a float16 frame, not a float32 frame"):
        ShardWriter(OneWay()).copy(io.BytesIO(data), summary.table)


@pytest.mark.parametrize("case", ["upper", "lower"])
def test_header_scan_agrees_with_the_index(case):
    data, summary = write(case=case)
    found = [
        {"slot": member.slot, "channel": member.channel.name, "member": member.name}
        | {key: getattr(member, key) for key in PLACE}
        for member in scan_shard(io.BytesIO(data))
    ]
    assert found == summary.table.select(["slot", "channel", "member", *PLACE]).to_pylist()


def foreign(format_, names=NAMES, **facts):
    """Return a shard as written by Python's tarfile module."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format_) as archive:
        for slot in slots():
            for name in names:
                body = io.BytesIO()
                np.save(body, pixels(slot, name))
                info = tarfile.TarInfo(member_name(slot, CHANNELS[name], "lower"))
                info.size = len(body.getvalue())
                info.mtime = 1700000000.25
                for key, value in facts.items():
                    setattr(info, key, value)
                body.seek(0)
                archive.addfile(info, body)
    return sink.getvalue()


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_shards_from_other_writers_are_read(format_):
    # If a modification time has a fraction, tarfile writes a pax header before the member.
    data = foreign(format_, uname="solar")
    for member in scan_shard(io.BytesIO(data)):
        raw = data[member.data_offset : member.offset + member.size]
        expected = pixels(member.slot, member.channel.name)
        np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(16, 16), expected)


def block(kind, data, name="x", size=None):
    """Return a tar header of a given type, followed by its data."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(data) if size is None else size
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def npy(side=4, dtype="float32"):
    body = io.BytesIO()
    np.save(body, np.zeros((side, side), dtype))
    return body.getvalue()


NAME = "2024/03/08/0000.HMI_M.npy"


@pytest.mark.parametrize(
    "before",
    [
        block(tarfile.DIRTYPE, b"", "2024/03/08"),
        block(tarfile.XGLTYPE, b"24 path=../../elsewhere\n"),
        block(tarfile.GNUTYPE_LONGNAME, NAME.encode() + b"\0"),
        block(tarfile.XHDTYPE, b"34 path=2024/03/08/0000.HMI_M.npy\n"),
        block(tarfile.XHDTYPE, b"12 size=192\n"),
    ],
    ids=["folder", "global header", "GNU name", "pax name", "pax size"],
)
def test_extended_headers_are_read(before):
    # The extended name applies; the name in the member's own header is truncated.
    named = NAME.encode() in before
    size = 0 if b" size=" in before else None
    data = before + block(tarfile.REGTYPE, npy(), NAME[:12] if named else NAME, size) + bytes(1024)
    (member,) = scan_shard(io.BytesIO(data))
    assert (member.name, member.offset) == (NAME, len(before) + 512)
    assert (member.size, member.resolution) == (192, 4)


def test_extended_folder_name_does_not_apply_to_the_next_member():
    folder = block(tarfile.GNUTYPE_LONGNAME, b"2024/03/08/\0") + block(tarfile.DIRTYPE, b"", "2024")
    data = folder + block(tarfile.REGTYPE, npy(), NAME) + bytes(1024)
    assert [member.name for member in scan_shard(io.BytesIO(data))] == [NAME]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"path=x\n", "pax header is damaged"),
        (b"7 path=x\n", "pax header is damaged"),
        (b"99 path=x\n", "pax header is damaged"),
        (b"2 path=x\n", "pax header is damaged"),
        (b"1 path=x\n", "pax header is damaged"),
        (b"0 path=x\n", "pax header is damaged"),
        (b"9" * 5000 + b" path=x\n", "pax header is damaged"),
        (b"11 size=-1\n", "pax header is damaged"),
        (b"11 size=\xb22\n", "pax header is damaged"),
        (b"25 size=9999999999999999\n", "pax header is damaged"),
        (b"70000 comment=".ljust(69_999, b"x") + b"\n", "is 70000 bytes long, more than 65536"),
    ],
    ids=lambda value: value[:12].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_damaged_pax_header_is_rejected(header, message):
    data = block(tarfile.XHDTYPE, header) + block(tarfile.REGTYPE, npy(), NAME) + bytes(1024)
    with pytest.raises(DamagedFileError, match=message):
        scan_shard(io.BytesIO(data))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not an array", "is not an npy file of format 1.0"),
        (npy().replace(b"\x93NUMPY\x01", b"\x93NUMPY\x02"), "is not an npy file of format 1.0"),
        (npy(dtype="float64"), "is not a square float32 or float16"),
        (npy().replace(b"(4, 4)", b"(4, 2)"), "is not a square float32 or float16"),
        (npy()[:-4], "is 188 bytes long, which does not match 4×4 pixels"),
        (npy() + b"more", "is 196 bytes long, which does not match 4×4 pixels"),
        (npy(0), "is 128 bytes long, which does not match 0×0 pixels"),
    ],
    ids=["text", "format 2", "float64", "oblong", "cut", "longer", "empty"],
)
def test_members_that_are_not_frames_are_rejected(body, message):
    data = block(tarfile.REGTYPE, body, NAME) + bytes(1024)
    with pytest.raises(DamagedFileError, match=f"{NAME} {message}"):
        scan_shard(io.BytesIO(data))


def test_webdataset_shards_are_read(tmp_path):
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "a.tar")) as sink:
        for slot in slots():
            frames = {f"{n.lower()}.npy": pixels(slot, n) for n in NAMES}
            sink.write({"__key__": f"{slot:%Y/%m/%d/%H%M}", **frames})
    with (tmp_path / "a.tar").open("rb") as file:
        assert len(scan_shard(file)) == 12


@pytest.mark.parametrize(
    "name",
    [
        "/2024/03/08/0000.HMI_M.npy",
        "../2024/03/08/0000.HMI_M.npy",
        "2024/03/08/../0000.HMI_M.npy",
        "2024/03/08/0000.HMI_M.npy\n",
        "2024/03/08/0000.HMI_M.pkl",
        "2024/03/08/0000.AIA_0195.npy",
        "2024/03/08/2460.HMI_M.npy",
        "2024/02/30/0000.HMI_M.npy",
        "2024/03/08/0000.Hmi_M.npy",
        "２０24/03/08/0000.HMI_M.npy",
        "",
    ],
)
def test_invalid_member_names_are_rejected(name):
    with pytest.raises(DamagedFileError):
        parse_member_name(name)
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DamagedFileError):
        scan_shard(sink)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_rejected(kind):
    data = foreign(tarfile.USTAR_FORMAT, names=("HMI_M",), type=kind, linkname="/etc/passwd")
    with pytest.raises(DamagedFileError, match="only regular files"):
        scan_shard(io.BytesIO(data))


def test_pax_header_cannot_point_outside():
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("2024/03/08/0000.HMI_M.npy")
        info.pax_headers = {"path": "../../outside.npy"}
        archive.addfile(info)
    with pytest.raises(DamagedFileError, match="outside"):
        scan_shard(sink)


def test_duplicate_member_is_rejected():
    with pytest.raises(DamagedFileError, match="twice"):
        scan_shard(io.BytesIO(foreign(tarfile.USTAR_FORMAT, names=("HMI_M", "HMI_M"))))


def test_every_truncation_is_detected():
    data, _ = write(1)
    end = len(data.rstrip(b"\0"))
    for length in range(0, end + 1, 97):
        with pytest.raises(DamagedFileError):
            scan_shard(io.BytesIO(data[:length]))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_shards_raise_only_typed_errors(data):
    shard, _ = SMALL
    mutated = bytearray(shard)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, 3 * 1664))
        mutated[place] = data.draw(st.integers(0, 255))
    try:
        for member in scan_shard(io.BytesIO(mutated)):
            assert 512 <= member.offset < member.data_offset
            assert member.offset + member.size <= len(mutated)
    except DamagedFileError:
        pass


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_mutated_indexes_raise_only_typed_errors(data):
    mutated = bytearray(INDEX)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        mutated[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        mutated = mutated[: data.draw(st.integers(0, len(mutated)))]
    try:
        index = decode_index(bytes(mutated))
    except DamagedFileError:
        return
    for row in index.table.to_pylist():
        assert 0 <= row["offset"] <= index.shard_bytes - row["size"]


SMALL = write(1)
INDEX = encode_index(
    SMALL[1].table,
    shard="a.tar",
    shard_bytes=SMALL[1].bytes,
    shard_sha256=SMALL[1].sha256,
    normalization_version="v",
)


def test_frame_metadata_may_be_unknown():
    assert set(dataclasses.asdict(FrameFacts()).values()) == {None}


@pytest.mark.parametrize("side", [12, 16])
def test_archive_ends_with_two_empty_blocks(side):
    for count in range(1, 21):
        data, summary = write(count, side=side)
        end = max(row["offset"] + row["size"] for row in summary.table.to_pylist())
        assert len(data) % tarfile.RECORDSIZE == 0
        assert len(data) >= end + 2 * tarfile.BLOCKSIZE
        assert not any(data[end:])
