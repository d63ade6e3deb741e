"""Batch memory is reused only when it is free, and uses huge pages if available."""

import gc
import mmap
import pickle
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.loader.reading import buffers
from sdoml_core.loader.reading.buffers import HUGE_PAGE, MAX_IDLE, Buffers


def flags(array):
    """Return the kernel's flags for the memory of an array."""
    place = array.ctypes.data
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        word = line.split()[0]
        if not word.endswith(":"):
            start, end = (int(bound, 16) for bound in word.split("-"))
            inside = start <= place < end
        elif inside and word == "VmFlags:":
            return line.split()[1:]
    raise AssertionError


def test_memory_is_reused_after_the_last_view_is_deleted():
    pool = Buffers()
    array = pool.take((4, 8))
    place, row = array.ctypes.data, array[2]
    row[:] = 7
    del array
    assert pool.take((4, 8)).ctypes.data != place
    np.testing.assert_array_equal(row, 7)
    del row
    gc.collect()
    places = {pool.take((8, 4)).ctypes.data for _ in range(3)}
    assert place in places


def test_only_a_few_idle_buffers_are_kept():
    pool = Buffers()
    held = [pool.take((16,)) for _ in range(MAX_IDLE + 3)]
    del held
    gc.collect()
    assert len(pool._idle[64]) == MAX_IDLE


def test_large_arrays_use_huge_pages_if_available():
    there = Path("/sys/kernel/mm/transparent_hugepage").exists()
    assert ("hg" in flags(Buffers().take((HUGE_PAGE // 4,)))) == there
    assert "hg" not in flags(Buffers().take((HUGE_PAGE // 4 - 1,)))


def test_buffers_work_without_huge_pages(monkeypatch):
    class Memory(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(buffers.mmap, "mmap", Memory)
    array = Buffers().take((HUGE_PAGE,))
    array[:] = 3
    assert array.sum() == 3 * HUGE_PAGE


@pytest.mark.parametrize("shape", [(0,), (0, 6, 32, 32)])
def test_empty_buffer_needs_no_memory(shape):
    assert Buffers().take(shape).shape == shape


def test_pool_is_not_pickled():
    pool = Buffers()
    pool.take((4,))
    gc.collect()
    assert pool._idle[16]
    assert not pickle.loads(pickle.dumps(pool))._idle
