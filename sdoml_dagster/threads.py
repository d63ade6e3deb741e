"""Map a function over items using threads, in order and with bounded memory."""

import contextlib
import ctypes
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_KEPT_BYTES = 256 << 20


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of one frame for the next frame.

    By default, glibc returns large blocks to the kernel, which then clears every page again for
    each frame. For HMI frames, this takes a quarter of the CPU time.
    """
    with contextlib.suppress(AttributeError):  # musl and macOS have no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, name: str
) -> Iterator[R]:
    """Yield results in the order of the items, with a bounded number in flight.

    The threads run in parallel only while the function releases the GIL. Reading, decoding, Numba
    kernels and hashing release it.

    Parameters
    ----------
    function
        Called in the worker threads.
    items
        Consumed lazily, only as workers become free.
    threads
        Number of threads. At most twice as many items are in flight. If 1, the function runs in the
        caller's thread.
    name
        Name prefix of the threads, for debuggers.
    """
    _keep_freed_memory()
    if threads == 1:
        yield from map(function, items)
        return
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, name) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
