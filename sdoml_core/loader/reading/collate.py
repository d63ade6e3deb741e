"""Samples that lie side by side in memory, and a collation that does not copy them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map


class Sample(tuple[Any, ...]):
    """A sample: tensor, time and, where asked for, metadata."""

    __slots__ = ()


class Samples(list[Sample]):
    """Samples that were read together."""

    batch: torch.Tensor | None = None
    """All their tensors as one; None after a transform."""

    items: int = 2
    """How many each sample has."""


def collate(samples: Sequence[Sample]) -> tuple[Any, ...]:
    """Batch of samples: tensor (B, C, H, W), list of times, list of metadata where asked for.

    Without a copy where the samples were read together. What every ``DataLoader`` does with
    these samples by default.
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


# The extension that the documentation of default_collate describes.
default_collate_fn_map[Sample] = _collate_by_default
