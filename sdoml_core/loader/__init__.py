"""PyTorch datasets over shards of SDOML-lite, local or remote.

``SDOMLlite`` is a map-style dataset that replaces the original's. ``BatchLoader`` reads batches
with threads instead of worker processes. ``SDOMLliteSequences`` gives windows of time.
``shard_dataset`` streams shard by shard. Only this part of the package needs torch.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "sdoml_core.loader needs PyTorch: pip install 'sdoml-lite[loader]' "
        "(in a checkout: pip install -e '.[loader]')"
    ) from error

from sdoml_core.loader.batches import BatchLoader
from sdoml_core.loader.dataset import SDOMLlite
from sdoml_core.loader.reading.collate import collate
from sdoml_core.loader.sampling.batch_sampler import BatchSampler
from sdoml_core.loader.sampling.resume import global_state
from sdoml_core.loader.sequences import SDOMLliteSequences
from sdoml_core.loader.streaming import ShardDataset, shard_dataset

__all__ = [
    "BatchLoader",
    "BatchSampler",
    "SDOMLlite",
    "SDOMLliteSequences",
    "ShardDataset",
    "collate",
    "global_state",
    "shard_dataset",
]
