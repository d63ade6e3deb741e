"""Samples that lie side by side in memory, and a collation that does not copy them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate


class Samples(list[Any]):
    """Samples that were read together."""

    batch: torch.Tensor | None = None
    """All their tensors as one; None after a transform."""


def collate(samples: Sequence[Any]) -> tuple[Any, ...]:
    """Batch of samples: tensor (B, C, H, W), list of times, list of metadata where asked for.

    For ``DataLoader(dataset, collate_fn=collate)``; without a copy where the samples were read
    together.
    """
    batch = samples.batch if isinstance(samples, Samples) else None
    if batch is None:
        batch = default_collate([sample[0] for sample in samples])
    return (batch, *(list(items) for items in list(zip(*samples, strict=True))[1:]))
