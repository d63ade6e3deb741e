"""Weighted sampling and mixing: orders of an epoch that are drawn with replacement.

The order depends only on the weights, the seed and the epoch. Like a permutation, it can be divided
among ranks and resumed.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset

from sdoml_core.errors import DatasetError
from sdoml_core.loader.sampling.order import random_keys


class WeightedOrder:
    """Order of the samples of an epoch, drawn with replacement in proportion to weights.

    Parameters
    ----------
    dataset
        Anything with a length.
    weights
        One number per sample. For a ``ConcatDataset``, one number per dataset is also possible: the
        share of samples from each dataset.
    length
        Samples per epoch.
    seed
        Seed of all epochs.

    Raises
    ------
    DatasetError
        If the number of weights is wrong, a weight is negative or not finite, or all weights are 0.
    """

    def __init__(self, dataset: Any, weights: Sequence[float], *, length: int, seed: int):
        each = np.asarray(weights, np.float64)
        count = len(dataset)
        parts = dataset.datasets if isinstance(dataset, ConcatDataset) else []
        known = each.ndim == 1 and len(each) in {count, len(parts) or count}
        if not known or not np.all(np.isfinite(each) & (each >= 0)) or not each.sum() > 0:
            also = f", or {len(parts)}, one per dataset" if parts else ""
            raise DatasetError(
                f"weights must be {count} numbers, one per sample{also}; they must be finite, not "
                "negative, and not all 0"
            )
        if len(each) != count:
            sizes = np.diff(dataset.cumulative_sizes, prepend=0)
            each = np.repeat(each / np.maximum(sizes, 1), sizes)
        self._cumulative = np.cumsum(each)
        self._length, self._seed = length, seed
        self.fingerprint = hashlib.sha256(each.tobytes()).hexdigest()[:16]
        """Identifies the weights in a saved state."""

    def __call__(self, epoch: int) -> NDArray[np.int64]:
        """Return the indices of the samples of an epoch, in order."""
        fraction = random_keys(self._length, self._seed, epoch, 2) / 2.0**64
        found = np.searchsorted(self._cumulative, fraction * self._cumulative[-1], side="right")
        # Because of rounding, an index may be beyond the last sample that has a positive weight.
        last = np.searchsorted(self._cumulative, self._cumulative[-1])
        order: NDArray[np.int64] = np.minimum(found, last)
        return order
