"""An ordered, bounded map over threads: the pipeline that processing and packing share."""

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
    """Let glibc reuse the megabytes of one frame for the next.

    By default it gives them back to the kernel, which clears each page anew for every frame: a
    quarter of the CPU time of an HMI frame.
    """
    with contextlib.suppress(AttributeError):  # musl and macOS have none
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def ordered_map(
    function: Callable[[T], R], items: Iterable[T], *, threads: int, name: str
) -> Iterator[R]:
    """Results in the order of the items, with few in flight so that memory stays flat.

    The work must hold no lock for the threads to run side by side: reading, decoding, Numba
    kernels and hashing do not.

    Parameters
    ----------
    function
        Called in the threads.
    items
        Consumed only as far as there is room.
    threads
        Number of threads; as many results again may wait to be taken. One is the caller's own.
    name
        Of the threads, for debuggers.
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
