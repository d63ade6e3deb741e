"""Reading ahead with threads: positioned reads hold no lock, so threads are all it takes."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

from sdoml_core.errors import DatasetError


@dataclass(frozen=True)
class Pending:
    """A batch whose memory is there and whose pixels are still to be read."""

    reads: Sequence[Callable[[], None]]
    """Each fills a part of the memory; they can run at once."""

    finish: Callable[[], Any]
    """Gives the batch when all have run."""

    def run(self) -> Any:
        """Read and finish in this thread."""
        for read in self.reads:
            read()
        return self.finish()


class BatchSource(Protocol):
    """A dataset that tells how to read several samples at once."""

    def __len__(self) -> int: ...

    def pending(self, indices: Sequence[int]) -> Pending:
        """A batch of samples, by number."""


def check_counts(least: int = 0, /, **counts: int) -> None:
    """Refuse numbers of threads, batches or frames that cannot be.

    Raises
    ------
    DatasetError
        For what is no whole number from the least on; the message names it.
    """
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < least:
            raise DatasetError(f"{name} must be a whole number from {least} on, not {count!r}")


def read_ahead(
    source: BatchSource, batches: Iterable[tuple[list[int], int]], *, threads: int, prefetch: int
) -> Iterator[tuple[Any, int]]:
    """Batches in their order, each read while the ones before it are in use.

    Parameters
    ----------
    source
        Gives the batches.
    batches
        Numbers of the samples of each batch, and where the epoch stands behind it.
    threads
        That read; 0 reads in the caller's thread, when a batch is asked for.
    prefetch
        Batches that are read ahead.
    """
    if threads == 0:
        for indices, position in batches:
            yield source.pending(indices).run(), position
        return
    ahead: deque[tuple[list[Future[None]], Pending, int]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="sdoml-read")
    try:
        for indices, position in batches:
            pending = source.pending(indices)
            ahead.append(([pool.submit(read) for read in pending.reads], pending, position))
            if len(ahead) > prefetch:
                yield _finished(*ahead.popleft())
        while ahead:
            yield _finished(*ahead.popleft())
    finally:
        # As the interpreter ends, the pool's own module may have gone.
        pool.shutdown(wait=True, cancel_futures=not sys.is_finalizing())


def _finished(futures: list[Future[None]], pending: Pending, position: int) -> tuple[Any, int]:
    for future in futures:
        future.result()
    return pending.finish(), position
