"""Reusable memory for batches.

A new tensor of several megabytes causes a page fault for every 4 KiB, which takes longer than
copying the pixels. This pool reuses memory only after the last tensor that uses it is deleted, so
data in use is never overwritten.
"""

import contextlib
import mmap
import weakref
from collections import defaultdict, deque
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_IDLE: Final = 4
HUGE_PAGE: Final = 2 << 20


class Buffers:
    """A pool of arrays. It is thread-safe."""

    def __init__(self) -> None:
        # A deque needs no lock. A fork could copy a lock while it is held.
        self._idle: dict[int, deque[mmap.mmap]] = defaultdict(lambda: deque(maxlen=MAX_IDLE))

    def __reduce__(self) -> tuple[type["Buffers"], tuple[()]]:
        return Buffers, ()

    def take(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an uninitialized float32 array."""
        size = prod(shape) * 4
        if size == 0:
            return np.empty(shape, np.float32)
        try:
            memory = self._idle[size].pop()
        except IndexError:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if size >= HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
                with contextlib.suppress(OSError):  # the kernel may not support huge pages
                    memory.madvise(mmap.MADV_HUGEPAGE)
        # All views and tensors refer to the base array. When the last of them is deleted, the
        # memory is returned to the pool.
        array = np.frombuffer(memory, np.float32).reshape(shape)
        base: Any = array.base
        weakref.finalize(base, self._give_back, memory).atexit = False
        return array

    def _give_back(self, memory: mmap.mmap) -> None:
        self._idle[len(memory)].append(memory)
