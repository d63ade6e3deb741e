"""The byte-range cache is verified, bounded and optional."""

import os

import pytest

from sdoml_core.loader.storage.range_cache import RangeCache


def test_cached_range_is_returned(tmp_path):
    cache = RangeCache(tmp_path)
    assert cache.read("a/0-5", 5) is None
    cache.write("a/0-5", b"bytes")
    assert RangeCache(tmp_path).read("a/0-5", 5) == b"bytes"


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: b"X" + d[1:], lambda d: d[:5]])
def test_damaged_range_is_written_again(tmp_path, damage):
    cache = RangeCache(tmp_path)
    cache.write("a", b"bytes")
    file = tmp_path / "a"
    file.write_bytes(damage(file.read_bytes()))
    assert cache.read("a", 5) is None
    cache.write("a", b"bytes")
    assert cache.read("a", 5) == b"bytes"


def test_unwritable_cache_is_not_used(tmp_path):
    (tmp_path / "file").touch()
    cache = RangeCache(tmp_path / "file/below")
    with pytest.warns(UserWarning, match="cannot write to the cache .*: Not a directory"):
        cache.write("a", b"bytes")
    cache.write("b", b"bytes")  # must not cause a second warning
    assert cache.read("a", 5) is None


def test_least_recently_used_ranges_are_evicted(tmp_path):
    cache = RangeCache(tmp_path, limit=2000)
    for number in range(4):
        cache.write(f"{number}", bytes(400))
        os.utime(tmp_path / f"{number}", (number, number))
    assert cache.read("0", 400) == bytes(400)  # now this range is the most recently used
    cache.write("4", bytes(400))
    assert [name for name in "01234" if cache.read(name, 400)] == ["0", "2", "3", "4"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 0.9 * 2000
