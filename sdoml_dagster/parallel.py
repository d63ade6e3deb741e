"""An ordered, bounded map over threads: the pipeline that processing and packing share."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


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
        Number of threads; as many results again may wait to be taken.
    name
        Of the threads, for debuggers.
    """
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
