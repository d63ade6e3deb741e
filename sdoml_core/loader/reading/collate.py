"""Combine samples into batches. Adjacent samples are not copied, and times keep their layout."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map


class Sample(tuple[Any, ...]):
    """A sample: tensor, time and, if requested, metadata."""

    __slots__ = ()


class TargetValues(dict[str, dict[str, torch.Tensor]]):
    """``targets`` and ``target_mask`` of a sample, each a dictionary by series name."""


class Metadata(list[dict[str, Any]]):
    """Metadata of the frames of one item. In a batch, the layout is ``[sample][frame]``."""


class Times(list[str]):
    """Times of the frames of one item. In a batch, the layout is ``[sample][frame]``.

    PyTorch would transpose plain lists to ``[frame][sample]``.
    """


class Samples(list[Sample]):
    """Samples that were read into one block of memory."""

    batch: torch.Tensor | None = None
    """All tensors as a single tensor. None if a transform was applied."""

    items: int = 2
    """Number of items in each sample."""


def collate(samples: Sequence[Sample]) -> tuple[Any, ...]:
    """Combine samples into a tensor (B, C, H, W), a list of times, and any metadata and targets.

    Targets become a dictionary of tensors whose first dimension is B. Samples that were read
    together are not copied. ``DataLoader`` uses this function by default.
    """
    if not isinstance(samples, Samples):
        tensors, *rest = zip(*samples, strict=True)
        return (default_collate(list(tensors)), *(_together(list(items)) for items in rest))
    others = [_together([sample[item] for sample in samples]) for item in range(1, samples.items)]
    batch = samples.batch
    if batch is None:
        batch = default_collate([sample[0] for sample in samples])
    return (batch, *others)


def _together(items: list[Any]) -> Any:
    """Combine the same item of several samples: targets are stacked, other items become a list."""
    if items and isinstance(items[0], TargetValues):
        return {
            kind: {name: torch.stack([item[kind][name] for item in items]) for name in values}
            for kind, values in items[0].items()
        }
    return items


def _collate_by_default(samples: Sequence[Sample], *, collate_fn_map: Any = None) -> Any:  # noqa: ARG001
    return collate(samples)


def _collate_lists(items: Sequence[Any], *, collate_fn_map: Any = None) -> list[Any]:  # noqa: ARG001
    return list(items)


# PyTorch's documentation recommends this dictionary for extending default_collate.
default_collate_fn_map[Sample] = _collate_by_default
default_collate_fn_map[Times] = _collate_lists
default_collate_fn_map[Metadata] = _collate_lists
