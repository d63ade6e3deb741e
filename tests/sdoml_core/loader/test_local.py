"""Byte ranges of local files are read completely, or raise an error."""

import os
from pathlib import Path

import pytest

from sdoml_core.errors import DamagedFileError, StoreError
from sdoml_core.loader.storage import local as files_module
from sdoml_core.loader.storage.local import LocalFiles, write_atomically


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    return LocalFiles(str(tmp_path))


def buffers():
    return [memoryview(bytearray(size)) for size in (10, 0, 30)]


def test_short_reads_still_fill_the_buffers(files, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: whole(fd, [into[0][:7]], at))
    filled = buffers()
    files.read_into("a.tar", 20, filled, size=100, tag="")
    assert b"".join(filled) == bytes(range(20, 60))


def test_truncated_file_is_reported_as_damaged(files):
    with pytest.raises(DamagedFileError, match="truncated: it has 100 bytes, but at least 101"):
        files.read_into("a.tar", 61, buffers(), size=None, tag="")


@pytest.mark.parametrize(
    ("ask", "verb"),
    [
        (lambda files: files.open("b.tar"), "open"),
        (lambda files: files.read("b.tar"), "read"),
        (lambda files: files.read_into("b.tar", 0, buffers(), size=None, tag=""), "open"),
    ],
    ids=["open", "read", "read into"],
)
def test_error_names_a_missing_file(files, ask, verb):
    assert not files.has("b.tar")
    with pytest.raises(StoreError, match=rf"cannot {verb} b\.tar in .*No such file"):
        ask(files)


def test_open_files_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module, "MAX_HANDLES", 2)
    for number in range(5):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 40)
    files = LocalFiles(str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in (0, 1, 2, 3, 4, 0, 3):
        filled = buffers()
        files.read_into(f"{number}.tar", 0, filled, size=40, tag="")
        assert b"".join(filled) == bytes([number]) * 40
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_failed_write_leaves_no_file(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "a", b"data")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    write_atomically(tmp_path / "b" / "c", b"data")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["c"]
    assert (tmp_path / "b" / "c").read_bytes() == b"data"
