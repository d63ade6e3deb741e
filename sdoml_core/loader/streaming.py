"""`shard_dataset`: samples shard by shard, for disks and object stores that read in sequence.

The order of an epoch is known from the index alone: shards in random order, and within them each
sample moved by less than a shuffle buffer's length. So nothing has to be held in memory to
shuffle, ranks and workers share each step as `sdoml_core.loader.sampling.order` says, and an epoch
resumes from one number.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from sdoml_core.errors import DatasetError
from sdoml_core.loader.dataset import DEFAULT_CHANNELS, SDOMLlite
from sdoml_core.loader.reading.collate import Sample
from sdoml_core.loader.reading.prefetch import check_counts, read_ahead
from sdoml_core.loader.sampling.order import Cursor, permutation, random_keys, step_bounds
from sdoml_core.loader.times import Time

NO_PASS: Final = -1


class ShardDataset(IterableDataset[Any]):
    """Samples or batches of a dataset in the order of its shards; see `shard_dataset`.

    Parameters
    ----------
    dataset
        What to stream; a split will do.
    batch_size
        Batches of so many samples, for ``DataLoader(…, batch_size=None)``; None gives samples.
    shuffle, seed
        Whether and how to shuffle shards and samples, anew each epoch.
    buffer
        How far a sample can move within the order of its shards.
    drop_last, rank, world_size
        As for `sdoml_core.loader.BatchLoader`.
    threads, prefetch
        Threads of each process that read (0 reads when a batch is asked for), and batches that
        are read ahead; without a batch size, samples for each thread.
    """

    def __init__(
        self,
        dataset: SDOMLlite,
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        buffer: int = 256,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        threads: int = 2,
        prefetch: int = 2,
    ):
        check_counts(threads=threads, prefetch=prefetch, buffer=buffer)
        if buffer < 1:
            raise DatasetError(f"buffer must be at least 1, not {buffer}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.buffer = buffer
        self.threads = threads
        self.prefetch = prefetch
        self._cursor = Cursor(
            len(dataset),
            self.order,
            batch_size=batch_size,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            identity={"shuffle": shuffle, "seed": seed, "buffer": buffer, "stream": True},
        )
        self._step = 0
        self._passes = 0
        # Pass that the workers of this process are in: epoch and a number that tells passes
        # apart. Whoever starts a pass writes it in one go, and all write the same.
        self._pass = torch.full((1,), NO_PASS, dtype=torch.int64)
        self._pass.share_memory_()  # type: ignore[no-untyped-call]

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Numbers of all samples in the order of an epoch, over all ranks."""
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        catalog = self.dataset.reader.catalog
        shard = catalog.shard[self.dataset.rows]
        rank_of_shard = np.argsort(permutation(len(catalog.shards), self.seed, epoch))
        in_shards = np.argsort(rank_of_shard[shard], kind="stable")
        moves = random_keys(count, self.seed, epoch, 1) % np.uint64(self.buffer)
        moved = np.argsort(np.arange(count) + moves.astype(np.int64), kind="stable")
        order: NDArray[np.int64] = in_shards[moved]
        return order

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = 0, 1
        if worker is not None:
            first, every = worker.id, worker.num_workers
            # The seed tells passes apart, but workers that persist keep theirs.
            self._passes += 1
            self._join_pass(1 + (worker.seed - worker.id + self._passes) % (2**31 - 1))
        if self._cursor.begun:
            self._step = 0
        bounds, order = self._cursor.begin()
        steps = (
            (self._cursor.indices(order, bounds[step], bounds[step + 1]), step + 1)
            for step in range(self._step, len(bounds) - 1)
            if step % every == first
        )
        return self._read(steps)

    def _read(self, steps: Iterator[tuple[list[int], int]]) -> Iterator[Any]:
        prefetch = self.prefetch if self.batch_size else self.prefetch * self.threads
        ahead = read_ahead(self.dataset, steps, threads=self.threads, prefetch=prefetch)
        for batch, step in ahead:
            self._step = step
            if self.batch_size:
                yield batch
            else:
                for item in range(len(batch[0])):
                    yield Sample(part[item] for part in batch)
        self._cursor.finish()
        self._step = 0

    def _join_pass(self, number: int) -> None:
        """In a worker: agree with the others on the epoch of this pass."""
        known = int(self._pass)
        if known == NO_PASS:
            epoch = self._cursor.epoch
        else:
            epoch, latest = divmod(known, 1 << 32)
            epoch += latest not in {0, number}
        if self._cursor.set_epoch(epoch):
            self._step = 0
        self._pass[0] = epoch << 32 | number

    def __len__(self) -> int:
        """Batches, or samples, of this rank in an epoch."""
        bounds = self._cursor.bounds()
        if self.batch_size:
            return len(bounds) - 1
        order = np.arange(bounds[-1])
        return sum(len(self._cursor.indices(order, *step)) for step in pairwise(bounds))

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of an epoch; passes count up by themselves."""
        if self._cursor.set_epoch(epoch):
            self._step = 0
        self._pass[0] = epoch << 32

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands after what was given last.

        In a worker it tells the progress of that worker; `global_state` makes of those of all
        workers one state that fits any number of them.
        """
        return self._cursor.state_dict() | {"step": self._step} | self._deal()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises
        ------
        DatasetError
            If it is of another set of samples, seed or order.
        """
        self._cursor.load_state_dict(state)
        self._step = int(state.get("step", 0))
        if {key: state.get(key) for key in self._deal()} != self._deal():
            self._cursor.position, self._step = position_of(state), 0
        if get_worker_info() is None:
            self._pass[0] = NO_PASS

    def _deal(self) -> dict[str, Any]:
        """How steps are cut, which a number of steps depends on."""
        cursor = self._cursor
        return {
            "batch_size": self.batch_size,
            "world_size": cursor.world_size,
            "drop_last": cursor.drop_last,
        }


def position_of(state: dict[str, Any]) -> int:
    """Samples of the epoch that are behind a state of a `ShardDataset`."""
    bounds = step_bounds(
        state["samples"],
        state["position"],
        batch_size=state["batch_size"],
        world_size=state["world_size"],
        drop_last=state["drop_last"],
    )
    return bounds[min(int(state["step"]), len(bounds) - 1)]


def shard_dataset(
    data_dir: str | os.PathLike[str],
    channels: Sequence[str] = DEFAULT_CHANNELS,
    date_start: Time | None = None,
    date_end: Time | None = None,
    date_exclusions: Iterable[tuple[Time, Time]] | None = None,
    *,
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: int = 0,
    buffer: int = 256,
    drop_last: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    threads: int = 2,
    prefetch: int = 2,
    **options: Any,
) -> ShardDataset:
    """Stream samples shard by shard.

    ``DataLoader(shard_dataset(folder, batch_size=8), batch_size=None, num_workers=2)`` gives
    each sample exactly once per epoch over all ranks and workers, as many batches on every rank,
    and the same batches whatever the number of workers.

    Parameters
    ----------
    data_dir, channels, date_start, date_end, date_exclusions, **options
        As for `SDOMLlite`.
    batch_size, shuffle, seed, buffer, drop_last, rank, world_size, threads, prefetch
        As for `ShardDataset`. With ``batch_size=None``, samples come singly, and where the world
        does not divide them, some ranks have one more.
    """
    dataset = SDOMLlite(data_dir, channels, date_start, date_end, date_exclusions, **options)
    return ShardDataset(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        buffer=buffer,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
        threads=threads,
        prefetch=prefetch,
    )
