"""PyTorch datasets that read local or remote SDOML-lite shards.

``SDOMLlite`` is a map-style dataset. ``BatchLoader`` reads batches with threads instead of worker
processes. ``SDOMLliteSequences`` returns sequences of frames. ``shard_dataset`` streams samples
shard by shard. ``compat.SDOMLlite`` follows the rules of the original loader, for code that was
written for it. Only this part of the package needs torch.

Names are imported on first use, so that the modules for storage and frames work without torch.
Importing torch takes a second, and installing it takes hundreds of megabytes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdoml_core.loader.batches import BatchLoader
    from sdoml_core.loader.dataset import SDOMLlite
    from sdoml_core.loader.live import LiveDataset
    from sdoml_core.loader.reading.collate import collate
    from sdoml_core.loader.sampling.batch_sampler import BatchSampler
    from sdoml_core.loader.sampling.resume import global_state
    from sdoml_core.loader.sequences import SDOMLliteSequences
    from sdoml_core.loader.streaming import ShardDataset, shard_dataset

__all__ = [
    "BatchLoader",
    "BatchSampler",
    "LiveDataset",
    "SDOMLlite",
    "SDOMLliteSequences",
    "ShardDataset",
    "collate",
    "global_state",
    "shard_dataset",
]

_MODULES = {
    "BatchLoader": "batches",
    "BatchSampler": "sampling.batch_sampler",
    "LiveDataset": "live",
    "SDOMLlite": "dataset",
    "SDOMLliteSequences": "sequences",
    "ShardDataset": "streaming",
    "collate": "reading.collate",
    "global_state": "sampling.resume",
    "shard_dataset": "streaming",
}
"""Module of each public name, relative to this package."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "sdoml_core.loader needs PyTorch: pip install 'sdoml-lite[loader]' "
            "(in a checkout: pip install -e '.[loader]')"
        ) from error
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
