"""Stores in folders and on S3: atomic writes, and errors in one line."""

import errno
import fcntl
import os
import sys
import threading
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sdoml_core.errors import DamagedFileError, SettingError, StoreError
from sdoml_dagster.store.layout import days_in, shard_files
from sdoml_dagster.store.store import Store
from tests.support.s3 import AWS
from tests.support.scripted_server import Handler, serving


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "store"))
    request.getfixturevalue("s3")
    return Store("s3://data/some/prefix")


def test_files_are_written_read_listed_and_deleted(store: Store) -> None:
    assert store.find("a") == []
    assert store.sizes("a/b") == {}
    assert not store.exists("a/b/one")
    assert store.read_if_exists("a/b/one") is None
    store.write("a/b/one", b"1234")
    store.write("a/b/two", b"")
    store.write("a/three", b"3")
    assert store.exists("a/b/one")
    assert not store.exists("a/b")
    assert store.read("a/b/one") == b"1234"
    assert store.read_range("a/b/one", 1, 9) == b"234"
    assert store.sizes("a/b") == {"one": 4, "two": 0}
    assert store.find("a") == ["a/b/one", "a/b/two", "a/three"]
    assert store.sha256_and_size("a/b/one")[0].startswith("03ac674216f3e15c")
    assert abs(store.modified("a/three").timestamp() - time.time()) < 60
    store.delete("a/three")
    store.delete("a/three")
    assert store.find("") == ["a/b/one", "a/b/two"]
    with pytest.raises(FileNotFoundError):
        store.read("a/three")


def test_files_are_replaced_atomically_and_created_once(store: Store) -> None:
    store.write("file", b"long before")
    store.write("file", b"now")
    assert store.read("file") == b"now"
    assert store.create("mark", b"first")
    assert not store.create("mark", b"second")
    assert store.read("mark") == b"first"
    assert store.find("") == ["file", "mark"]


def test_link_has_the_same_bytes_and_can_be_repeated(store: Store) -> None:
    store.write("shards/one.tar", b"shard")
    for _ in range(2):
        store.link_or_copy("shards/one.tar", "releases/v1/001.tar")
    assert store.find("") == ["releases/v1/001.tar", "shards/one.tar"]
    store.write("shards/one.tar", b"another")
    assert store.read("releases/v1/001.tar") == b"shard"
    store.link_or_copy("shards/one.tar", "releases/v1/001.tar")
    assert store.read("releases/v1/001.tar") == b"another"
    local = store.local_path("releases/v1")
    if local is not None:
        assert [path.name for path in local.iterdir()] == ["001.tar"]
    with pytest.raises((FileNotFoundError, StoreError)):
        store.link_or_copy("shards/none.tar", "releases/v1/002.tar")


def test_moved_file_replaces_an_existing_one(store: Store) -> None:
    store.write("shards/one.tar", b"shard")
    store.write("damaged/shards/one.tar", b"of an earlier time")
    store.write("shards/two.tar", b"second")
    store.move("shards/one.tar", "damaged/shards/one.tar")
    store.move("shards/two.tar", "elsewhere/two.tar")
    assert store.find("") == ["damaged/shards/one.tar", "elsewhere/two.tar"]
    assert store.read("damaged/shards/one.tar") == b"shard"
    assert store.read("elsewhere/two.tar") == b"second"
    with pytest.raises(FileNotFoundError):
        store.move("shards/one.tar", "damaged/shards/one.tar")
    assert store.read("damaged/shards/one.tar") == b"shard"


def test_sweep_keeps_complete_files(store: Store) -> None:
    store.write("day/file", b"whole")
    store.sweep("day")
    store.sweep("no/such/folder")
    assert store.read("day/file") == b"whole"


def test_days_are_found_from_folders_and_shards(store: Store) -> None:
    for path in (
        "raw/2024/03/08/aia.parquet",
        "raw/2024/03/notes/x",
        "raw/2024/02/30/x",
        "raw/2024/W10/7/x",  # ISO 8601 also allows weeks
        "processed/2024/03/07/AIA_0171.npy",
        "shards/2024/sdoml-lite-2024-03-09.tar",
        "shards/2024/sdoml-lite-2024-03-08.parquet",
        "shards/2024/README.md",
        "shards/2024/sdoml-lite-2024-02-30.tar",
        "releases/2024/03/01/x",
    ):
        store.write(path, b"")
    assert days_in(store) == [date(2024, 3, day) for day in (7, 8, 9)]
    assert shard_files(store) == {date(2024, 3, 8): {"parquet"}, date(2024, 3, 9): {"tar"}}


def test_error_for_an_unknown_store_type_names_the_setting() -> None:
    with pytest.raises(SettingError, match=r"^SDOML_STORE=s4://data: [^\n]*s4[^\n]*$"):
        Store("s4://data")


def test_failed_write_keeps_the_existing_file(store: Store) -> None:
    store.write("file", b"before")
    with pytest.raises(DamagedFileError), store.writer("file") as handle:
        handle.write(b"half")
        raise DamagedFileError("no")
    assert store.read("file") == b"before"
    local = store.local_path("")
    if local is not None:
        assert [path.name for path in local.iterdir()] == ["file"]


def test_disk_error_during_a_long_write_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = threading.Event()

    def fsync(_: int) -> None:
        if not told.is_set():
            told.set()
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    store = Store(str(tmp_path))
    with (
        pytest.raises(StoreError, match="Input/output error"),
        store.writer("long", size=1 << 30) as file,
    ):
        file.write(b"first bytes")
        assert told.wait(10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("advised", [True, False])
def test_long_write_is_flushed_while_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advised: bool
) -> None:
    followed = threading.Semaphore(0)
    fsync = os.fsync

    def counted(handle: int) -> None:
        fsync(handle)
        followed.release()

    monkeypatch.setattr(os, "fsync", counted)
    if not advised:
        # macOS does not have this function.
        monkeypatch.delattr(os, "posix_fadvise", raising=False)
    store = Store(str(tmp_path))
    with store.writer("long", size=1 << 30) as file:
        file.write(b"first")
        assert all(followed.acquire(timeout=10) for _ in range(3))
        file.write(b" last")
    assert store.read("long") == b"first last"


class TestFolder:
    """Tests that apply only to stores in folders."""

    def test_link_is_a_hard_link(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path))
        store.write("a", b"1")
        store.link_or_copy("a", "b")
        assert (tmp_path / "a").samefile(tmp_path / "b")

    @pytest.mark.parametrize("code", [errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP])
    def test_link_is_a_copy_without_hard_link_support(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "link", refuse)
        store = Store(str(tmp_path))
        data = os.urandom(3 << 20)
        store.write("a", data)
        store.write("b", b"before")
        store.link_or_copy("a", "b")
        assert store.read("b") == data
        assert not (tmp_path / "a").samefile(tmp_path / "b")
        assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]

    def test_file_is_created_once_without_hard_link_support(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        store = Store(str(tmp_path))
        assert store.create("mark", b"first")
        assert not store.create("mark", b"second")
        assert store.read("mark") == b"first"
        assert [path.name for path in tmp_path.iterdir()] == ["mark"]

    def test_failed_link_is_reported_and_leaves_no_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.EIO, "Input/output error")

        store = Store(str(tmp_path))
        store.write("a", b"1")
        monkeypatch.setattr(os, "link", refuse)
        with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/b: Input/output error$"):
            store.link_or_copy("a", "b")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]

    def test_sweep_removes_only_files_of_dead_processes(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path))
        store.write("day/kept", b"1")
        dead = tmp_path / "day" / ".file.0123.partial"
        dead.write_bytes(b"half")
        with store.writer("day/file") as handle:
            handle.write(b"whole")
            store.sweep("day")
            assert not dead.exists()
        assert store.read("day/file") == b"whole"
        assert sorted(path.name for path in (tmp_path / "day").iterdir()) == ["file", "kept"]

    def test_partial_files_are_not_listed(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path))
        with store.writer("day/file"):
            assert store.sizes("day") == {}
            assert store.find("day") == []

    def test_sweep_does_not_disturb_concurrent_writers(self, tmp_path: Path) -> None:
        store = Store(str(tmp_path))
        done = threading.Event()

        def sweep() -> None:
            while not done.is_set():
                store.sweep("")

        sweepers = [threading.Thread(target=sweep) for _ in range(2)]
        for thread in sweepers:
            thread.start()
        try:
            for number in range(300):
                store.write(f"{number % 5}", b"x")
                store.link_or_copy(f"{number % 5}", "linked")
        finally:
            done.set()
            for thread in sweepers:
                thread.join()
        assert store.find("") == ["0", "1", "2", "3", "4", "linked"]

    def test_store_works_without_file_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(37, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        store = Store(str(tmp_path))
        with store.writer("file") as handle:
            handle.write(b"1")
            store.sweep("")
        assert store.read("file") == b"1"

    def test_store_that_is_a_file_is_reported_in_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "store").write_bytes(b"")
        store = Store(str(tmp_path / "store"))
        with pytest.raises(StoreError, match=rf"^cannot write {tmp_path}/store/a/b: .*$"):
            store.write("a/b", b"1")


class TestS3:
    """Tests that apply only to stores on S3."""

    @pytest.mark.slow
    def test_large_file_is_uploaded_in_parts(self, s3: Any) -> None:
        store = Store("s3://data")
        with store.writer("large") as handle:
            for number in range(120):
                handle.write(bytes([number]) * (1 << 20))
        assert store.sizes("") == {"large": 120 << 20}
        assert store.read_range("large", (119 << 20) - 1, (119 << 20) + 1) == bytes([118, 119])
        assert s3.info("data/large")["ETag"].endswith('-3"'), "the upload must have three parts"
        assert not s3.list_multipart_uploads("data")

    def test_failed_part_leaves_no_object_or_upload(
        self, s3: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store("s3://data")
        store.write("large", b"before")
        call = store.fs._call_s3

        async def fail_second_part(method: str, *args: Any, **kwargs: Any) -> Any:
            if method == "upload_part" and kwargs["PartNumber"] == 2:
                raise OSError(5, "Input/output error")
            return await call(method, *args, **kwargs)

        monkeypatch.setattr(store.fs, "_call_s3", fail_second_part)
        with pytest.raises(StoreError, match=r"cannot write s3://data/large: Input/output error"):
            with store.writer("large") as handle:
                handle.truncate(120 << 20)
        monkeypatch.undo()
        assert not s3.list_multipart_uploads("data")
        assert s3.cat("data/large") == b"before"

    def test_error_for_a_missing_extra_names_the_package(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "botocore.exceptions", None)  # simulate a missing package
        with pytest.raises(SettingError, match=r"^SDOML_STORE=s3://data needs the extra 's3'"):
            Store("s3://data")

    def test_missing_bucket_is_reported_in_one_line(self, s3: Any) -> None:
        store = Store("s3://elsewhere/prefix")
        for act in (
            lambda: store.read("a"),
            lambda: store.read_if_exists("a"),
            lambda: store.write("a", b"1"),
            lambda: store.create("a", b"1"),
            lambda: store.sizes("raw"),
        ):
            with pytest.raises(StoreError, match=r"^[^\n]*(elsewhere)[^\n]*bucket[^\n]*$"):
                act()

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("InvalidAccessKeyId", "The key is unknown"),
            ("SignatureDoesNotMatch", "The key is unknown"),
            ("AccessDenied", "The key is unknown"),
        ],
    )
    def test_wrong_credentials_are_reported_in_one_line(
        self, code: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import s3fs

        def refuse(handler: Handler) -> None:
            length = int(handler.headers.get("Content-Length") or 0)
            handler.rfile.read(length)
            body = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>".encode()
            handler.answer(403, b"" if handler.command == "HEAD" else body)

        Handler.do_PUT = Handler.do_HEAD = Handler.do_GET  # type: ignore[attr-defined]
        with serving(refuse) as server:
            endpoint = server.root.removesuffix("/tree")
            for name, value in (AWS | {"AWS_ENDPOINT_URL": endpoint}).items():
                monkeypatch.setenv(name, value)
            s3fs.S3FileSystem.clear_instance_cache()
            store = Store("s3://data")
            for act in (
                lambda: store.read_if_exists("a"),
                lambda: store.exists("a"),
                lambda: store.write("a", b"1"),
                lambda: store.sizes("raw"),
                lambda: store.find("raw"),
            ):
                with pytest.raises(StoreError) as error:
                    act()
                assert "s3://data" in str(error.value)
                assert "\n" not in str(error.value)
        s3fs.S3FileSystem.clear_instance_cache()

    def test_missing_credentials_are_reported_in_one_line(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import s3fs

        for name in AWS:
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, os.devnull)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StoreError, match=r"^cannot write s3://data/a: [^\n]+$"):
            Store("s3://data").write("a", b"1")
        s3fs.S3FileSystem.clear_instance_cache()
