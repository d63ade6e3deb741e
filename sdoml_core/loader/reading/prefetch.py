"""Read batches ahead with threads.

Worker processes are not needed, because positioned reads run without Python's global lock.
"""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Pending:
    """A batch with allocated memory, whose pixels have not been read yet."""

    reads: Sequence[Callable[[], None]]
    """Tasks that can run in parallel. Each task fills a part of the memory."""

    finish: Callable[[], Any]
    """Called after all reads to return the batch."""

    def run(self) -> Any:
        """Run all tasks in this thread and return the batch."""
        for read in self.reads:
            read()
        return self.finish()


def read_ahead(
    prepare: Callable[[list[int]], Pending],
    batches: Iterable[tuple[list[int], int]],
    *,
    threads: int,
    prefetch: int,
) -> Iterator[tuple[Any, int]]:
    """Yield batches in order, and read the following batches in the background.

    Parameters
    ----------
    prepare
        Function that allocates a batch for the samples with the given indices.
    batches
        Sample indices of each batch, and the number of completed steps after the batch.
    threads
        Number of threads that read. With 0, the caller's thread reads each batch on request.
    prefetch
        Number of batches to read ahead.
    """
    if threads == 0:
        for indices, position in batches:
            yield prepare(indices).run(), position
        return
    ahead: deque[tuple[list[Future[None]], Pending, int]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sdoml-read")
    try:
        for indices, position in batches:
            pending = prepare(indices)
            ahead.append(([pool.submit(read) for read in pending.reads], pending, position))
            if len(ahead) > prefetch:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        # Do not cancel futures at interpreter exit: the pool's module may already be unloaded.
        pool.shutdown(wait=True, cancel_futures=not sys.is_finalizing())


def _finished(futures: list[Future[None]], pending: Pending, position: int) -> tuple[Any, int]:
    for future in futures:
        future.result()
    return pending.finish(), position
