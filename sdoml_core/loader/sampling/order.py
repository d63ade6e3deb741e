"""The order of an epoch and how ranks share it: what makes an epoch resumable.

An epoch is a permutation of all samples that seed and epoch alone determine. In each step every
rank takes its part of the next ``batch_size × world_size`` samples, so that the whole progress
of a job is one number: how many samples of the permutation are behind it. From there any number
of ranks, workers or threads can go on.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.reading.prefetch import check_counts

Order = Callable[[int], NDArray[np.int64]]
"""From the number of an epoch to the order of its samples."""


def random_keys(count: int, *seeds: int) -> NDArray[np.uint64]:
    """As many random numbers of 64 bits, the same with every version of numpy (splitmix64)."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for seed in seeds:
            state = _mix(np.array([np.uint64(seed & 0xFFFFFFFFFFFFFFFF) ^ state]))[0]
        return _mix(np.arange(count, dtype=np.uint64) + state)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permutation(count: int, *seeds: int) -> NDArray[np.int64]:
    """A permutation of the numbers below `count`, the same everywhere."""
    return np.argsort(random_keys(count, *seeds), kind="stable").astype(np.int64)


def default_world(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """Rank and world size as given, or as torch.distributed knows them.

    Raises
    ------
    DatasetError
        If there is no such rank.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if world_size is None:
        world_size = torch.distributed.get_world_size() if distributed else 1
    if rank is None:
        rank = torch.distributed.get_rank() if distributed else 0
    if not 0 <= rank < world_size:
        raise DatasetError(f"there is no rank {rank} among {world_size}")
    return rank, world_size


def step_bounds(
    count: int, position: int, *, batch_size: int | None, world_size: int, drop_last: bool
) -> list[int]:
    """Positions at which the steps of an epoch begin, and the end of the last.

    Every step but the last has ``batch_size × world_size`` samples. The last has what is left;
    where that would leave a rank without any, it joins the step before, whose batches then have
    up to one sample more. (Only where fewer samples than ranks are left in all do some ranks get
    an empty batch.) With `drop_last` what is left is not used. Without a batch size a step is one
    sample for each rank, and the last has none for some.
    """
    whole = (batch_size or 1) * world_size
    bounds = list(range(position, count + 1, whole))
    rest = count - bounds[-1] if bounds else 0
    if drop_last or not rest:
        return bounds or [count]
    if batch_size and rest < world_size and len(bounds) > 1:
        bounds.pop()
    return [*bounds, count]


def share(start: int, stop: int, *, rank: int, world_size: int) -> slice:
    """The part of a step that a rank takes; parts differ by one sample at most."""
    each, more = divmod(stop - start, world_size)
    first = start + rank * each + min(rank, more)
    return slice(first, first + each + (rank < more))


class Cursor:
    """Where an epoch stands, and the batches of one rank from there on.

    Parameters
    ----------
    count
        Samples in all.
    order
        Of each epoch.
    batch_size, drop_last, rank, world_size
        See `step_bounds`.
    identity
        What else must be the same for a state to fit, such as the seed.
    """

    def __init__(
        self,
        count: int,
        order: Order,
        *,
        batch_size: int | None,
        drop_last: bool,
        rank: int | None,
        world_size: int | None,
        identity: dict[str, Any],
    ):
        if batch_size is not None:
            check_counts(1, batch_size=batch_size)
        self.rank, self.world_size = default_world(rank, world_size)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.epoch = 0
        self.position = 0
        self._count = count
        self._order = order
        self._identity = identity | {"samples": count}
        self.begun = False

    def bounds(self, position: int = 0) -> list[int]:
        """Where steps begin, from a position on, and the end of the last."""
        return step_bounds(
            self._count,
            position,
            batch_size=self.batch_size,
            world_size=self.world_size,
            drop_last=self.drop_last,
        )

    def begin(self) -> tuple[list[int], NDArray[np.int64]]:
        """Start a pass: the steps to do, and the order of the epoch.

        A pass starts where a loaded state says, else at the beginning of the next epoch.
        """
        if self.begun:
            self.epoch, self.position = self.epoch + 1, 0
        self.begun = True
        return self.bounds(self.position), self._order(self.epoch)

    def indices(self, order: NDArray[np.int64], start: int, stop: int) -> list[int]:
        """Samples of this rank in a step."""
        part = share(start, stop, rank=self.rank, world_size=self.world_size)
        return [int(index) for index in order[part]]

    def batches(self) -> Iterator[tuple[list[int], int]]:
        """Samples of each batch of this rank, with the position behind it."""
        bounds, order = self.begin()
        for start, stop in pairwise(bounds):
            yield self.indices(order, start, stop), stop

    def finish(self) -> None:
        """The pass is over: the next is another epoch's."""
        self.epoch, self.position, self.begun = self.epoch + 1, 0, False

    def set_epoch(self, epoch: int) -> bool:
        """Let the next pass be that of an epoch.

        Keeps the position where a loaded state is of that epoch; otherwise the answer is True.
        """
        anew = self.begun or epoch != self.epoch
        if anew:
            self.epoch, self.position, self.begun = epoch, 0, False
        return anew

    def state_dict(self) -> dict[str, Any]:
        """Progress of all ranks together, as plain numbers."""
        return self._identity | {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, whichever rank of however many it comes from.

        Raises
        ------
        DatasetError
            If it is no such state, or one of other samples or another order.
        """
        absent = [key for key in self.state_dict() if key not in state]
        if absent:
            raise DatasetError(f"this is no state of such a loader: it has no {', '.join(absent)}")
        for key, value in self._identity.items():
            if state[key] != value:
                raise DatasetError(
                    f"this state has {key}={state[key]!r}, the loader {key}={value!r}: "
                    "it cannot go on from there"
                )
        epoch, position = state["epoch"], state["position"]
        if not isinstance(epoch, int) or not isinstance(position, int):
            raise DatasetError(f"this state is at sample {position!r} of epoch {epoch!r}")
        if epoch < 0 or not 0 <= position <= self._count:
            raise DatasetError(f"this state is at sample {position} of {self._count}")
        self.epoch, self.position, self.begun = epoch, position, False
