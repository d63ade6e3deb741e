"""The order of an epoch, and how ranks share its steps.

The permutation of all samples depends only on the seed and the epoch. In each step, every rank
takes its part of the next ``batch_size × world_size`` samples. The progress of a whole job is
therefore a single number: how many samples of the permutation have been used. A job can continue
from this number with any number of ranks, workers or threads.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Order = Callable[[int], NDArray[np.int64]]
"""Function that returns the order of the samples in an epoch, given the epoch's number."""


def random_keys(count: int, *seeds: int) -> NDArray[np.uint64]:
    """Return random 64-bit numbers that do not depend on the NumPy version (splitmix64)."""
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
    """Return a permutation of the numbers below `count` that is the same on every machine."""
    return np.argsort(random_keys(count, *seeds), kind="stable").astype(np.int64)


def step_bounds(
    count: int, position: int, *, batch_size: int | None, world_size: int, drop_last: bool
) -> list[int]:
    """Return the positions at which the steps of an epoch begin, and the end of the last step.

    Every step except the last has ``batch_size × world_size`` samples. The last step has the
    remaining samples. If fewer samples than ranks remain, they are added to the previous step,
    whose batches then have up to one additional sample. Some ranks get an empty batch only if the
    whole epoch has fewer samples than there are ranks. With `drop_last`, the remaining samples are
    not used. Without a batch size, a step is one sample for each rank, and some ranks may have no
    sample in the last step.
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
    """Return the part of a step for one rank. Parts differ by at most one sample."""
    each, more = divmod(stop - start, world_size)
    first = start + rank * each + min(rank, more)
    return slice(first, first + each + (rank < more))
