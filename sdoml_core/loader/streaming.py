"""`shard_dataset`: stream samples shard by shard, for storage with slow random access.

The order of an epoch is computed from the index alone. Shards are in random order, and each sample
is moved by fewer than ``buffer`` positions. Unlike a shuffle buffer, this keeps no samples in
memory. Ranks and workers share each step (see `sdoml_core.loader.sampling.order`), and an epoch can
be resumed from a single number.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.dataset import DEFAULT_CHANNELS, SDOMLlite
from sdoml_core.loader.reading.collate import Sample
from sdoml_core.loader.reading.prefetch import read_ahead
from sdoml_core.loader.sampling.cursor import Cursor, Pass, in_order, warn_of_repeated_epoch
from sdoml_core.loader.sampling.delivery import delivered_by_workers
from sdoml_core.loader.sampling.order import permutation, random_keys, share
from sdoml_core.loader.sampling.resume import position_of
from sdoml_core.loader.sampling.worker_passes import KEY, LOADED, SET, LastPass, WorkerPasses
from sdoml_core.loader.times import Time


class ShardDataset(IterableDataset[Any]):
    """Samples or batches of a dataset, read shard by shard; see `shard_dataset`.

    Parameters
    ----------
    dataset
        The dataset to stream, or one of its splits.
    batch_size
        Yield batches of this many samples, for ``DataLoader(…, batch_size=None)``. With None, yield
        single samples.
    shuffle, seed
        Whether to shuffle shards and samples, and the seed. Each epoch has a different order.
    buffer
        Limit for shuffling: each sample is moved by fewer than this number of positions, after the
        shards have been put in random order.
    drop_last, rank, world_size
        See `sdoml_core.loader.BatchSampler`.
    threads, prefetch
        Number of threads per process that read batches, and number of batches to read ahead. With 0
        threads, each batch is read when it is requested. Without a batch size, `prefetch` is a
        number of samples per thread.

    Notes
    -----
    Without worker processes, the epoch changes in the same way as with
    `sdoml_core.loader.BatchLoader`. With worker processes and one rank, each pass advances to the
    next epoch. With worker processes and several ranks, call `set_epoch` before each pass.
    Otherwise, the same epoch is repeated with a warning, because a worker cannot know whether the
    last pass was complete.
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
        self._passes = WorkerPasses()
        # The following attributes are used only in workers. `_loaded` records whether this worker
        # loaded a state.
        self._loaded = False
        self._pass: Pass | None = None
        self._passes_begun = 0

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of all samples in the order of this epoch, across all ranks."""
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
        if worker is None:
            return self._alone()
        return self._in_worker(worker.id, worker.num_workers, worker.seed - worker.id)

    def _alone(self) -> Iterator[Any]:
        """Yield the items of a pass in the main process."""
        self._follow_workers()
        current = self._cursor.begin()
        try:
            yield from self._read(current, in_order(current))
        except BaseException:
            current.leave()
            raise
        current.finish()
        self._passes.give(self._cursor.epoch, 0, LOADED)

    def _in_worker(self, number: int, workers: int, key: int) -> Iterator[Any]:
        """Yield the part of a pass that one worker reads: every `workers`-th step."""
        cursor = self._cursor
        place = cursor.world.place()
        joined = self._passes.join(
            number,
            key,
            epoch=cursor.epoch,
            loaded=self._loaded,
            counts=place.world_size == 1,
        )
        self._loaded = False
        epoch, start, first = joined.epoch, joined.position, 0
        if start < 0:
            start, first = cursor.position, cursor.step
        current = Pass(cursor, epoch, start, first, place=place)
        if joined.given == LOADED and start and first >= current.steps:
            # The state is at the end of an epoch.
            current = Pass(cursor, epoch + 1, 0, 0, place=place)
        steps = [step for step in range(current.first, current.steps) if step % workers == number]
        known = current.start if current.first == 0 else -1
        self._passes.correct(number, epoch=current.epoch, start=known, empty=not steps)
        if joined.repeated and self.shuffle and number == 0:
            warn_of_repeated_epoch(current.epoch)
        self._pass = current
        return self._share(current, steps)

    def _share(self, current: Pass, steps: list[int]) -> Iterator[Any]:
        yield from self._read(current, ((current.indices(step), step + 1) for step in steps))
        current.step = current.steps

    def _read(self, current: Pass, steps: Iterator[tuple[list[int], int]]) -> Iterator[Any]:
        prefetch = self.prefetch if self.batch_size else self.prefetch * self.threads
        for batch, step in read_ahead(
            self.dataset.pending, steps, threads=self.threads, prefetch=prefetch
        ):
            current.deliver(step)
            if self.batch_size:
                yield batch
            else:
                for item in range(len(batch[0])):
                    yield Sample(part[item] for part in batch)

    def _follow_workers(self) -> None:
        """Update the cursor after passes by workers. Called in the main process."""
        last = self._passes.last()
        if last is not None:
            self._cursor.set_epoch(last.epoch + (self._cursor.world.place().world_size == 1))

    def __len__(self) -> int:
        """Return the number of batches (or single samples) that this rank reads in an epoch."""
        bounds = self._cursor.bounds()
        if self.batch_size:
            return len(bounds) - 1
        place = self._cursor.world.place()
        parts = [
            share(*step, rank=place.rank, world_size=place.world_size) for step in pairwise(bounds)
        ]
        return sum(part.stop - part.start for part in parts)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass. Keep the position if a state of that epoch was loaded."""
        self._cursor.set_epoch(epoch)
        self._give(SET)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress as of the last delivered sample or batch.

        In a worker, this is the progress of that worker. `global_state` combines the states of all
        workers into a state that works with any number of workers.

        During iteration over a plain ``DataLoader`` with workers, the state in the main process
        describes which samples the data loader has delivered.

        Raises
        ------
        DatasetError
            In the main process, if the progress is unknown. This is the case after iteration over a
            ``DataLoader`` with workers, or if the ``DataLoader`` batches single samples.
        """
        if get_worker_info() is not None:
            return self._state_of_worker()
        state = self._cursor.state_dict()
        last = self._passes.last()
        if last is not None:
            state |= self._delivered(last)
        return state | {"step": 0} | self._deal()

    def _delivered(self, last: LastPass) -> dict[str, int]:
        """Return the epoch and the position after the last batch that workers delivered."""
        steps = delivered_by_workers(self, lambda seed: seed % KEY == last.key)
        if steps is None or last.start < 0:
            raise DatasetError(
                "worker processes read this stream, so its position is known only during "
                "iteration. To save the start of an epoch, call set_epoch before state_dict. To "
                "save a position, use torchdata's StatefulDataLoader and "
                "global_state(loader.state_dict())"
            )
        bounds = self._cursor.bounds(last.start)
        if steps >= len(bounds) - 1:
            return {"epoch": last.epoch + 1, "position": 0}
        return {"epoch": last.epoch, "position": bounds[steps]}

    def _state_of_worker(self) -> dict[str, Any]:
        at = self._pass
        epoch, position, step = self._cursor.epoch, self._cursor.position, self._cursor.step
        if at is not None and not self._loaded:
            epoch, position, step = at.epoch, at.start, at.step
        state = self._cursor.state_dict() | {"epoch": epoch, "position": position, "step": step}
        return state | self._deal()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises
        ------
        DatasetError
            If the state was saved with different samples, a different seed or a different order.
        """
        step = int(state.get("step", 0))
        if step and {key: state.get(key) for key in self._deal()} != self._deal():
            state, step = state | {"position": position_of(state)}, 0
        self._cursor.load_state_dict(state, step=step)
        if get_worker_info() is None:
            self._give(LOADED)
        else:
            self._loaded = True

    def _give(self, how: int) -> None:
        """Tell workers where the next pass starts. ``how`` is `SET` or `LOADED`."""
        cursor = self._cursor
        if get_worker_info() is None:
            bounds = cursor.bounds(cursor.position)
            start = bounds[min(cursor.step, len(bounds) - 1)]
            self._passes.give(cursor.epoch, start, how)

    def _deal(self) -> dict[str, Any]:
        """Return the parameters that determine the steps of an epoch."""
        return {
            "batch_size": self.batch_size,
            "world_size": self._cursor.world.place().world_size,
            "drop_last": self._cursor.drop_last,
        }


def shard_dataset(
    data_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
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

    ``DataLoader(shard_dataset(folder, batch_size=8), batch_size=None, num_workers=2)`` yields each
    sample exactly once per epoch across all ranks and workers. Every rank gets the same number of
    batches, and the batches do not depend on the number of workers.

    Parameters
    ----------
    data_dir, channels, date_start, date_end, date_exclusions, **options
        See `SDOMLlite`.
    batch_size, shuffle, seed, buffer, drop_last, rank, world_size, threads, prefetch
        See `ShardDataset`. With ``batch_size=None``, items are single samples. If the number of
        samples is not a multiple of the world size, some ranks then get one more sample than
        others.
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
