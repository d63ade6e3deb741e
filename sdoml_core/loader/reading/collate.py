"""Collation: samples that are adjacent in memory are not copied, and times keep their layout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map


class Sample(tuple[Any, ...]):
    """A sample: tensor, time and, if requested, metadata."""

    __slots__ = ()


class Times(list[str]):
    """Times of the frames of one item. A batch of them is a list of lists, [sample][frame].

    PyTorch transposes plain lists, which gives [frame][sample].
    """


class Samples(list[Sample]):
    """Samples that were read together."""

    batch: torch.Tensor | None = None
    """All their tensors as one. None after a transform."""

    items: int = 2
    """Number of items of each sample."""


def collate(samples: Sequence[Sample]) -> tuple[Any, ...]:
    """Make a batch: tensor (B, C, H, W), list of times and, if requested, list of metadata.

    Samples that were read together are not copied. Every ``DataLoader`` collates these samples in
    this way by default.
    """
    if not isinstance(samples, Samples):
        tensors, *rest = zip(*samples, strict=True)
        return (default_collate(list(tensors)), *map(list, rest))
    others = [[sample[item] for sample in samples] for item in range(1, samples.items)]
    batch = samples.batch
    if batch is None:
        batch = default_collate([sample[0] for sample in samples])
    return (batch, *others)


def _collate_by_default(samples: Sequence[Sample], *, collate_fn_map: Any = None) -> Any:  # noqa: ARG001
    return collate(samples)


def _collate_times(items: Sequence[Times], *, collate_fn_map: Any = None) -> list[Times]:  # noqa: ARG001
    return list(items)


# The extension that the documentation of default_collate describes.
default_collate_fn_map[Sample] = _collate_by_default
default_collate_fn_map[Times] = _collate_times
