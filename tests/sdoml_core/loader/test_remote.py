"""Shards on HTTP and S3 servers: byte ranges, retries, a cache, and clear errors."""

import os
import pickle
import shutil

import fsspec
import numpy as np
import pytest
from torch.utils.data import DataLoader

from sdoml_core.errors import DamagedFileError, DatasetError, StoreError
from sdoml_core.loader import BatchLoader, SDOMLlite
from sdoml_core.loader.storage import remote
from sdoml_core.loader.storage.local import LocalFiles
from tests.support import synthetic_shards
from tests.support.range_server import serving_ranges
from tests.support.synthetic_shards import FIRST, SIDE, at, frame, write_day, write_release


@pytest.fixture
def server(release, tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE", 0.001)
    shutil.copytree(release, tmp_path / "served")
    with serving_ranges(tmp_path / "served") as server:
        yield server


def check(dataset, index):
    tensor, time = dataset[index]
    for pixels, channel in zip(tensor, dataset.channels, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), frame(at(time), channel))


def test_only_requested_channels_are_downloaded(server):
    dataset = SDOMLlite(server.url, ["AIA_0171", "AIA_0193"])
    server.sent.clear()
    check(dataset, 30)
    one = SIDE * SIDE * 4
    assert 2 * one <= server.sent["sdoml-lite-002.tar"] <= 2 * one + 2048
    assert server.sent.total() == server.sent["sdoml-lite-002.tar"]


def test_temporary_errors_are_retried(server):
    dataset = SDOMLlite(server.url)
    server.faults = [503, "reset", 500, 429]
    check(dataset, 3)
    assert server.faults == []


def test_permanent_error_names_the_file(server):
    dataset = SDOMLlite(server.url)
    server.faults = [500] * 20
    with pytest.raises(StoreError, match=r"cannot read .*sdoml-lite-001\.tar"):
        dataset[0]
    assert len(server.faults) == 20 - remote.ATTEMPTS
    server.faults = [403] * 5
    with pytest.raises(StoreError, match="403"):
        dataset[0]
    assert len(server.faults) == 4  # a retry would not help


def test_error_names_a_missing_or_truncated_shard(server):
    dataset = SDOMLlite(server.url)
    shard = server.folder / "sdoml-lite-003.tar"
    shard.write_bytes(shard.read_bytes()[:200_000])
    with pytest.raises((DamagedFileError, StoreError), match=r"sdoml-lite-003\.tar"):
        dataset[-1]
    shard.unlink()
    with pytest.raises(StoreError, match=r"sdoml-lite-003\.tar does not exist"):
        dataset[-1]


def test_server_without_byte_ranges_is_detected(server):
    dataset = SDOMLlite(server.url)
    server.ranges = False
    with pytest.raises(StoreError, match="does not support byte-range requests"):
        dataset[0]


def test_cached_ranges_are_not_requested_again(server, tmp_path):
    cache = tmp_path / "cache"
    dataset = SDOMLlite(server.url, cache_dir=cache)
    for number in (0, 5):
        check(dataset, number)
    server.sent.clear()
    again = SDOMLlite(server.url, cache_dir=cache)
    check(again, 5)
    assert server.sent["sdoml-lite-001.tar"] == 0
    for copy in cache.rglob("*-*"):
        if copy.is_file():
            copy.write_bytes(b"cut")  # a damaged cache entry is ignored
    check(again, 5)
    assert server.sent["sdoml-lite-001.tar"] > 0


def negative(slot, channel, side=SIDE):
    return 1 - frame(slot, channel, side)


def test_rebuilt_shard_is_not_read_from_the_cache(server, tmp_path, monkeypatch):
    before = SDOMLlite(server.url, cache_dir=tmp_path / "cache")[3][0]
    sizes = {path.name: path.stat().st_size for path in server.folder.glob("*.tar")}
    monkeypatch.setattr(synthetic_shards, "frame", negative)
    write_release(server.folder, 3)
    assert sizes == {path.name: path.stat().st_size for path in server.folder.glob("*.tar")}
    after = SDOMLlite(server.url, cache_dir=tmp_path / "cache")[3][0]
    np.testing.assert_allclose(after, 1 - before, atol=1e-6)


def test_batches_and_workers_read_over_the_network(server):
    dataset = SDOMLlite(server.url)
    check(dataset, 0)  # open a connection before workers fork
    expected = [str(time) for time in dataset.times]
    for loader in (BatchLoader(dataset, 8), DataLoader(dataset, batch_size=8, num_workers=2)):
        seen = []
        for tensors, times in loader:
            seen += times
            np.testing.assert_array_equal(tensors[0, 0].numpy(), frame(at(times[0]), "HMI_M"))
        assert seen == expected


def test_remote_dataset_can_be_pickled(server):
    dataset = SDOMLlite(server.url)
    check(dataset, 0)  # an open connection is not pickled
    again = pickle.loads(pickle.dumps(dataset))
    assert again.reader.files._connected is None
    check(again, 7)


@pytest.fixture
def memory(tmp_path):
    """A folder in fsspec's memory file system."""
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_remote_index_stays_in_memory_without_a_cache_folder(memory, tmp_path):
    write_day(tmp_path, FIRST, hours=1)
    memory.put(str(tmp_path), "/shards", recursive=True)
    dataset = SDOMLlite("memory://shards", ["HMI_M"])
    check(dataset, 3)
    assert sorted(memory.ls("/shards", detail=False)) == [
        f"/shards/sdoml-lite-{FIRST}.{kind}" for kind in ("parquet", "tar")
    ]


def test_remote_folder_without_shards_is_reported(memory):
    memory.pipe("/empty/README.md", b"nothing")
    with pytest.raises(DatasetError, match=r"no shards \(\*\.tar\) in memory://empty$"):
        SDOMLlite("memory://empty")


@pytest.fixture(scope="module")
def bucket(release):
    """A bucket that contains the release, on a local S3 server."""
    import moto.server as moto
    import s3fs

    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://{host}:{port}"},
    }
    filesystem = s3fs.S3FileSystem(**options)
    filesystem.mkdir("solar")
    filesystem.put(str(release), "solar/release", recursive=True)
    yield filesystem, options
    server.stop()


@pytest.mark.slow
def test_release_in_a_bucket_is_read(bucket):
    _, options = bucket
    dataset = SDOMLlite("s3://solar/release", storage_options=options)
    assert len(dataset) == 60
    for number in (0, 30, -1):
        check(dataset, number)
    loader = DataLoader(dataset, batch_size=16, num_workers=1)
    assert [time for _, times in loader for time in times] == [str(t) for t in dataset.times]


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.slow
def test_daily_shards_in_a_bucket_are_read(bucket, tmp_path, monkeypatch, index):
    filesystem, options = bucket
    target = f"solar/days-{index}"

    def put() -> None:
        write_day(tmp_path / "2022", FIRST, index=index, channels=["AIA_0193", "HMI_M"], hours=1)
        for path in sorted((tmp_path / "2022").iterdir()):
            filesystem.put_file(str(path), f"{target}/2022/{path.name}")

    put()
    dataset = SDOMLlite(
        f"s3://{target}",
        ["HMI_M", "AIA_0193"],
        storage_options=options,
        cache_dir=tmp_path / "cache",
    )
    assert len(dataset) == 4
    check(dataset, 2)
    again = SDOMLlite(
        f"s3://{target}", ["HMI_M"], storage_options=options, cache_dir=tmp_path / "cache"
    )
    check(again, 3)
    monkeypatch.setattr(synthetic_shards, "frame", negative)
    put()
    anew = SDOMLlite(
        f"s3://{target}", ["HMI_M"], storage_options=options, cache_dir=tmp_path / "cache"
    )
    np.testing.assert_allclose(anew[3][0], 1 - again[3][0], atol=1e-6)


def test_missing_bucket_is_reported_in_one_line(bucket):
    _, options = bucket
    with pytest.raises(StoreError, match="nowhere") as caught:
        SDOMLlite("s3://nowhere/at-all", storage_options=options)
    assert "\n" not in str(caught.value)


def test_file_url_is_read_as_a_local_folder(release):
    dataset = SDOMLlite(f"file://{os.fspath(release)}")
    assert isinstance(dataset.reader.files, LocalFiles)
    check(dataset, 0)


def test_unknown_protocol_is_rejected() -> None:
    with pytest.raises(DatasetError, match="cannot open foo://bar: Protocol not known: foo"):
        SDOMLlite("foo://bar", ["AIA_0171"])
