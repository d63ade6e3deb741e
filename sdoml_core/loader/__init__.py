"""PyTorch datasets over shards of sdoml-lite, local or remote.

``SDOMLlite`` is map-style and drop-in for the original's; ``BatchLoader`` reads batches with
threads instead of worker processes; ``SDOMLliteSequences`` cuts windows out of time;
``shard_dataset`` streams shard by shard. The one place of the package that needs torch.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        "sdoml_core.loader needs PyTorch: pip install 'sdoml-lite[loader]' "
        "(in a checkout: pip install -e '.[loader]')"
    ) from error

from sdoml_core.loader.batches import BatchLoader, BatchSampler
from sdoml_core.loader.dataset import SDOMLlite
from sdoml_core.loader.reading.collate import collate
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
