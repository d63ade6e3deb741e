"""Samples that lie side by side in memory, and a collation that does not copy them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate


class Samples(list[Any]):
    """Samples that were read together."""

    batch: torch.Tensor | None = None
    """All their tensors as one; None after a transform."""

    items: int = 2
    """How many each sample has."""


def collate(samples: Sequence[Any]) -> tuple[Any, ...]:
    """Batch of samples: tensor (B, C, H, W), list of times, list of metadata where asked for.

    For ``DataLoader(dataset, collate_fn=collate)``; without a copy where the samples were read
    together.
    """
    if not isinstance(samples, Samples):
        tensors, *rest = zip(*samples, strict=True)
        return (default_collate(list(tensors)), *map(list, rest))
    others = [[sample[item] for sample in samples] for item in range(1, samples.items)]
    batch = samples.batch
    if batch is None:
        batch = default_collate([sample[0] for sample in samples])
    return (batch, *others)
