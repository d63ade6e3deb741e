"""`BatchLoader`: batches without worker processes, resumable after any batch."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import Dataset, IterableDataset

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.reading.pending import pending
from sdoml_core.loader.reading.prefetch import read_ahead
from sdoml_core.loader.sampling.batch_sampler import BatchSampler
from sdoml_core.loader.sampling.cursor import in_order


class BatchLoader:
    """Batches of a dataset, read by threads directly into the memory of each batch.

    Batches are ``(tensor (B, C, H, W), times)``, with metadata as a third item if the dataset has
    it. For sequences, batches are dictionaries. Threads are faster than worker processes, which
    must copy each batch from one process to another.

    Parameters
    ----------
    dataset
        `SDOMLlite`, one of its splits, `SDOMLliteSequences`, a ``Subset`` or ``ConcatDataset`` of
        these, or another map-style dataset whose samples can be read by several threads.
    batch_size, shuffle, seed, weights, length, drop_last, rank, world_size
        See `BatchSampler`.
    threads
        Number of threads that read batches. With 0, each batch is read when it is requested.
    prefetch
        Number of batches to read ahead.
    pin_memory
        Copy batches to page-locked memory, for transfer to a GPU. Has no effect without a GPU.

    Notes
    -----
    After a complete pass, the loader advances to the next epoch. With one rank, it also advances
    after a pass that ends early. With several ranks it does not: all ranks must read the same
    epoch, but only one rank may have started the pass, for example to inspect the data. If your
    loop ends passes early, call `set_epoch` before each pass.

    The loader gets the rank and the world size from torch.distributed when a pass begins, so it may
    be created before ``init_process_group``. If they change during a pass, the loader raises an
    error.

    After any batch, `state_dict` returns a state from which a loader can continue with the next
    batch, with any number of ranks and threads.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        length: int | None = None,
        drop_last: bool = False,
        threads: int = 2,
        prefetch: int = 2,
        pin_memory: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        if not isinstance(dataset, Dataset) or isinstance(dataset, IterableDataset):
            raise DatasetError(
                "a BatchLoader needs an SDOMLlite, one of its splits, SDOMLliteSequences, or "
                f"another map-style dataset, not {dataset!r}"
            )
        check_counts(threads=threads, prefetch=prefetch)
        self.dataset = dataset
        self.threads = threads
        self.prefetch = prefetch
        self.pin_memory = pin_memory
        # Trainers call `batch_sampler.sampler.set_epoch`.
        self.batch_sampler = BatchSampler(
            dataset,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            weights=weights,
            length=length,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self._cursor = self.batch_sampler.cursor

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        current = self._cursor.begin()
        pin = self.pin_memory and _can_pin()
        ahead = read_ahead(
            partial(pending, self.dataset),
            in_order(current),
            threads=self.threads,
            prefetch=self.prefetch,
        )
        try:
            for batch, step in ahead:
                current.deliver(step)
                yield _pin(batch) if pin else batch
        except BaseException:
            current.leave()
            raise
        current.finish()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass. Keep the position if a state of that epoch was loaded."""
        self._cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress after the last delivered batch."""
        return self._cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. The number of ranks and threads may differ.

        Raises
        ------
        DatasetError
            If the state was saved with different samples, a different seed or a different order.
        """
        self._cursor.load_state_dict(state)


def _can_pin() -> bool:
    """Return whether a GPU or another accelerator is available."""
    accelerator = getattr(torch, "accelerator", torch.cuda)  # new in torch 2.6
    return bool(accelerator.is_available())


def _pin(value: Any) -> Any:
    """Return the value with its tensors in page-locked memory."""
    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if isinstance(value, dict):
        return {key: _pin(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_pin(item) for item in value)
    return value
