"""Prepare batches of any map-style dataset for parallel reading."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import ConcatDataset, Subset, default_collate

from sdoml_core.errors import DatasetError
from sdoml_core.loader.reading.prefetch import Pending


def pending(dataset: Any, indices: Sequence[int]) -> Pending:
    """Return a batch that has not been read yet.

    Parameters
    ----------
    dataset
        A dataset with a ``pending`` method; a ``Subset`` or ``ConcatDataset`` of such datasets; or
        any other map-style dataset, which is read sample by sample and collated as in PyTorch's
        ``DataLoader``.
    indices
        Indices of the samples.
    """
    if hasattr(dataset, "pending"):
        found: Pending = dataset.pending(indices)
        return found
    if isinstance(dataset, Subset):
        return pending(dataset.dataset, [dataset.indices[index] for index in indices])
    if isinstance(dataset, ConcatDataset) and all(map(_joinable, dataset.datasets)):
        return _of_several(dataset, indices)
    items: list[Any] = [None] * len(indices)

    def read(place: int, index: int) -> None:
        items[place] = dataset[index]

    reads: list[Callable[[], None]] = [
        partial(read, place, index) for place, index in enumerate(indices)
    ]
    return Pending(reads, lambda: default_collate(items))


def _joinable(dataset: Any) -> bool:
    """Return whether `joined` can join batches of a dataset.

    After PyTorch's collation, a list of fields cannot be distinguished from a list of samples.
    Batches from other datasets, or from datasets with a transform, which may return any type, are
    therefore collated from single samples.
    """
    if isinstance(dataset, Subset):
        return _joinable(dataset.dataset)
    if isinstance(dataset, ConcatDataset):
        return all(map(_joinable, dataset.datasets))
    frames = getattr(dataset, "dataset", None)  # the dataset that sequences read from
    transforms = (getattr(each, "transform", None) for each in (dataset, frames))
    return hasattr(dataset, "pending") and not any(transforms)


def _of_several(dataset: ConcatDataset[Any], indices: Sequence[int]) -> Pending:
    """Return a batch of samples from several datasets, in the order of the indices."""
    starts = [0, *dataset.cumulative_sizes]
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        owner = next(n for n, end in enumerate(dataset.cumulative_sizes) if index < end)
        places.setdefault(owner, []).append(place)
    parts = [
        pending(dataset.datasets[owner], [indices[place] - starts[owner] for place in its])
        for owner, its in places.items()
    ]
    if len(parts) == 1:
        return parts[0]
    order = [place for its in places.values() for place in its]
    back = sorted(range(len(order)), key=order.__getitem__)
    reads = [read for part in parts for read in part.reads]
    return Pending(reads, lambda: joined([part.finish() for part in parts], back))


def joined(batches: Sequence[Any], order: Sequence[int]) -> Any:
    """Join batches that have the same structure, and reorder their samples."""
    first = batches[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(batches))[list(order)]
    if isinstance(first, dict):
        return {key: joined([batch[key] for batch in batches], order) for key in first}
    if isinstance(first, tuple):
        if len({len(batch) for batch in batches}) > 1:
            raise DatasetError(
                "the concatenated datasets return samples with different items: use the same "
                "metadata and targets for all datasets"
            )
        return tuple(joined(parts, order) for parts in zip(*batches, strict=True))
    together = [item for batch in batches for item in batch]
    return [together[place] for place in order]
