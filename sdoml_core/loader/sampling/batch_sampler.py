"""`BatchSampler`: a resumable order for PyTorch's own data loaders."""

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler
from torch.utils.data.dataloader import _BaseDataLoaderIter

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.sampling.cursor import Cursor, Pass
from sdoml_core.loader.sampling.order import Order, permutation
from sdoml_core.loader.sampling.weighted import WeightedOrder

MAX_DEPTH = 12
"""Maximum number of stack frames between a data loader and this sampler. Trainers add wrappers."""


class BatchSampler(Sampler[list[int]]):
    """Batches of sample indices in a resumable order, for a ``DataLoader``.

    ``StatefulDataLoader(dataset, batch_sampler=BatchSampler(dataset, 8))`` resumes exactly. For
    a different number of ranks or workers, pass the result of `sdoml_core.loader.global_state` to
    `load_state_dict`.

    Parameters
    ----------
    dataset
        Anything with a length.
    batch_size
        Samples per batch on each rank.
    shuffle, seed
        Whether to shuffle the samples, and the seed. Each epoch has a different order.
    weights
        Draw samples with replacement, in proportion to these numbers. Pass one number per sample.
        For a ``ConcatDataset``, you can also pass one number per dataset: the share of samples from
        it. Weights require ``shuffle=True``. A sample may occur several times in an epoch, or not
        at all.
    length
        Samples per epoch across all ranks, if `weights` is given. Defaults to the length of the
        dataset.
    drop_last
        Leave out the samples that do not fill a batch on every rank. Otherwise, each sample occurs
        exactly once per epoch, and all ranks have the same number of batches.
    rank, world_size
        By default, the values that torch.distributed reports when a pass begins. Pass ``rank=0,
        world_size=1`` with Accelerate's ``prepare``, which divides the batches itself.

    Notes
    -----
    `sdoml_core.loader.BatchLoader` explains when the epoch changes.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        weights: Sequence[float] | None = None,
        length: int | None = None,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
    ):
        count = len(dataset)
        identity: dict[str, Any] = {"shuffle": shuffle, "seed": seed}
        order: Order = partial(_shuffled if shuffle else _sorted, count, seed)
        if weights is not None:
            if not shuffle:
                raise DatasetError("weights require shuffle=True")
            count = count if length is None else length
            check_counts(1, length=count)
            order = weighted = WeightedOrder(dataset, weights, length=count, seed=seed)
            identity["weights"] = weighted.fingerprint
        elif length is not None:
            raise DatasetError("length requires weights")
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.cursor = Cursor(
            count,
            order,
            batch_size=batch_size,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
            identity=identity,
        )

    def __len__(self) -> int:
        return len(self.cursor.bounds()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        return Batches(self.cursor)

    @property
    def sampler(self) -> Self:
        """The sampler itself: Lightning and Accelerate call `set_epoch` on this attribute."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass. Keep the position if a state of that epoch was loaded."""
        self.cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress after the last batch that the data loader delivered."""
        return self.cursor.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises
        ------
        DatasetError
            If the state was saved with different samples, a different seed or a different order.
        """
        self.cursor.load_state_dict(state)


def _shuffled(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return permutation(count, seed, epoch)


def _sorted(count: int, _seed: int, _epoch: int) -> NDArray[np.int64]:
    return np.arange(count)


class Batches:
    """Iterator over the batches of one pass, which counts the delivered batches.

    A data loader with workers takes ``prefetch_factor × workers`` batches before it delivers the
    first batch. It then requests one more batch before each delivery, even if no batch is left. The
    number of calls therefore shows how many batches were delivered.

    `state_dict` and `load_state_dict` are for torchdata, which stores a state with each batch that
    it takes.
    """

    def __init__(self, cursor: Cursor):
        self._cursor = cursor
        self._pass: Pass | None = None
        self._calls = 0
        self._ahead = 0

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> list[int]:
        if self._pass is None:
            self._ahead = taken_ahead(self._cursor)
            self._pass = self._cursor.begin()
        current = self._pass
        if not current.open:
            raise StopIteration
        step = current.first + self._calls
        self._calls += 1
        delivered = self._calls - self._ahead
        indices = current.indices(step) if step < current.steps else None
        if delivered > 0 and current.first + delivered <= current.steps:
            current.deliver(current.first + delivered)
        last = current.first + max(delivered, 0) >= current.steps
        if indices is None and (self._ahead == 0 or last):
            current.finish()
        if indices is None:
            raise StopIteration
        return indices

    def __del__(self) -> None:
        if self._pass is not None and self._pass.open:
            self._pass.leave()

    def state_dict(self) -> dict[str, Any]:
        """Return the progress after the last batch that was taken."""
        if self._pass is None:
            return self._cursor.state_dict() | {"taken": True}
        taken = min(self._pass.first + self._calls, self._pass.steps)
        return self._cursor.state_dict() | {
            "epoch": self._pass.epoch,
            "position": self._pass.bounds[taken],
            "taken": True,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self._cursor.load_state_dict(state)
        self._pass, self._calls = None, 0


def taken_ahead(cursor: Cursor) -> int:
    """Return how many batches the data loader takes before it delivers the first batch.

    Raises
    ------
    DatasetError
        If Accelerate divides batches that this sampler has already divided among ranks.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 PyTorch does not tell a sampler its reader
    for _ in range(MAX_DEPTH):
        if frame is None:
            break
        reader = frame.f_locals.get("self")
        if isinstance(reader, _BaseDataLoaderIter):
            workers = int(getattr(reader, "_num_workers", 0))
            return workers * int(getattr(reader, "_prefetch_factor", None) or 0)
        if (
            isinstance(getattr(reader, "batch_sampler", None), BatchSampler)
            and getattr(reader, "num_processes", 1) > 1
            and cursor.world.place().world_size > 1
        ):
            raise DatasetError(
                "Accelerate and this BatchSampler would both divide the batches among the ranks, "
                "so samples would be lost. Create the sampler with rank=0 and world_size=1, or use "
                "a BatchLoader, which does not need prepare()"
            )
        frame = frame.f_back
    return 0
