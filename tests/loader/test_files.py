"""Byte ranges of local files: all that was asked for, or an error."""

import os

import pytest

from sdoml_core.errors import DamagedFileError
from sdoml_core.loader.files import LocalFiles


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.tar").write_bytes(bytes(range(100)))
    return LocalFiles(str(tmp_path))


def buffers():
    return [memoryview(bytearray(size)) for size in (10, 0, 30)]


def test_buffers_are_filled_though_a_read_gives_less_than_was_asked_for(files, monkeypatch):
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, into, at: whole(fd, [into[0][:7]], at))
    filled = buffers()
    files.read_into("a.tar", 20, filled, 100)
    assert b"".join(filled) == bytes(range(20, 60))


def test_a_file_that_ends_too_early_is_damaged(files):
    with pytest.raises(DamagedFileError, match="cut short: 100 bytes, 101 needed"):
        files.read_into("a.tar", 61, buffers(), None)
