"""`BatchLoader`: batches without worker processes, resumable to the sample."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from sdoml_core.errors import DatasetError
from sdoml_core.loader.reading.prefetch import BatchSource, check_counts, read_ahead
from sdoml_core.loader.sampling.order import Cursor, permutation


class BatchSampler(Sampler[list[int]]):
    """Batches of sample numbers in a resumable order, for a ``DataLoader``.

    ``StatefulDataLoader(dataset, batch_sampler=BatchSampler(dataset, 8))`` resumes exactly. For
    another number of ranks or workers give `load_state_dict` what
    `sdoml_core.loader.global_state` takes out of the loader's state.

    Parameters
    ----------
    dataset
        Anything with a length.
    batch_size
        Samples of a batch, per rank.
    shuffle, seed
        Whether and how to permute the samples; each epoch has an order of its own.
    drop_last
        Leave out what does not fill a batch on every rank. Otherwise each sample comes exactly
        once per epoch, and all ranks have equally many batches.
    rank, world_size
        By default as torch.distributed has them.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        self.cursor = epoch_cursor(
            len(dataset),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    def __len__(self) -> int:
        return len(self.cursor.bounds()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        for indices, position in self.cursor.batches():
            self.cursor.position = position
            yield indices
        self.cursor.finish()

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of an epoch; passes count up by themselves."""
        self.cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands after the batch that was given last."""
        return self.cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.cursor.load_state_dict(state)


class BatchLoader:
    """Batches of a dataset, read by threads straight into the memory of each batch.

    Batches are ``(tensor (B, C, H, W), times)``, with metadata as a third item where the dataset
    gives it; for sequences they are dictionaries. Faster than worker processes, which must hand
    each batch from one process to another.

    Parameters
    ----------
    dataset
        `SDOMLlite`, one of its splits, or `SDOMLliteSequences`.
    batch_size, shuffle, seed, drop_last, rank, world_size
        As for `BatchSampler`.
    threads
        That read; 0 reads when a batch is asked for.
    prefetch
        Batches that are read ahead.
    pin_memory
        Copy batches to page-locked memory, for transfer to a GPU; without one they stay as they
        are.

    Notes
    -----
    A new pass starts a new epoch. `state_dict` after any batch tells how to go on with the next,
    with whatever number of ranks and threads.
    """

    def __init__(
        self,
        dataset: BatchSource,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        threads: int = 2,
        prefetch: int = 2,
        pin_memory: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        if not hasattr(dataset, "pending"):
            raise DatasetError(
                "a BatchLoader reads an SDOMLlite, one of its splits, or SDOMLliteSequences, not "
                f"{dataset!r}"
            )
        check_counts(threads=threads, prefetch=prefetch)
        self.dataset = dataset
        self.threads = threads
        self.prefetch = prefetch
        self.pin_memory = pin_memory
        self._cursor = epoch_cursor(
            len(dataset),
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )

    def __len__(self) -> int:
        return len(self._cursor.bounds()) - 1

    def __iter__(self) -> Iterator[Any]:
        ahead = read_ahead(
            self.dataset, self._cursor.batches(), threads=self.threads, prefetch=self.prefetch
        )
        pin = self.pin_memory and _can_pin()
        for batch, position in ahead:
            self._cursor.position = position
            yield _pin(batch) if pin else batch
        self._cursor.finish()

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of an epoch; passes count up by themselves."""
        self._cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands after the batch that was given last: a few numbers."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, also with another number of ranks or threads.

        Raises
        ------
        DatasetError
            If the state is of another set of samples, seed or order.
        """
        self._cursor.load_state_dict(state)


def epoch_cursor(
    count: int,
    *,
    batch_size: int,
    shuffle: bool,
    seed: int,
    drop_last: bool,
    rank: int | None,
    world_size: int | None,
) -> Cursor:
    """A cursor over samples in their own order, or a new permutation each epoch."""
    return Cursor(
        count,
        (lambda epoch: permutation(count, seed, epoch)) if shuffle else lambda _: np.arange(count),
        batch_size=batch_size,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
        identity={"shuffle": shuffle, "seed": seed},
    )


def _can_pin() -> bool:
    """Whether there is anything to transfer batches to."""
    accelerator = getattr(torch, "accelerator", torch.cuda)  # new in torch 2.6
    return bool(accelerator.is_available())


def _pin(value: Any) -> Any:
    """The same with its tensors in page-locked memory."""
    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if isinstance(value, dict):
        return {key: _pin(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_pin(item) for item in value)
    return value
