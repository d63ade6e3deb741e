"""Detect ranks that read different epochs.

If only one rank reads a complete pass, it advances to the next epoch and then shuffles differently
from the other ranks. To detect this, each rank uses the torch.distributed store to count the epochs
that it begins. The other ranks do not have to respond, so a pass never waits.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import Any

import torch

_begun: set[str] = set()
"""Epochs that this process has counted in the store."""


def count_begin(identity: Mapping[str, Any], epoch: int) -> None:
    """Record that this rank begins an epoch. Further calls for the same epoch do nothing."""
    key = _key(identity, epoch)
    if key not in _begun:
        _begun.add(key)
        _add(key, 1)


def ranks_that_began(identity: Mapping[str, Any], epoch: int) -> int | None:
    """Return how many ranks have begun an epoch, or None if this is unknown."""
    return _add(_key(identity, epoch), 0)


def warn_of_lone_pass(epoch: int, ranks: int, world_size: int) -> None:
    """Warn that this rank completed an epoch before another rank began it."""
    warnings.warn(
        f"this rank completed epoch {epoch} when only {ranks} of {world_size} ranks had begun it. "
        "Unless the other ranks also read that epoch, the ranks now read different epochs. Call "
        "set_epoch(epoch) before each pass. To read on one rank only, create a loader with rank=0 "
        "and world_size=1",
        UserWarning,
        stacklevel=2,
    )


def _key(identity: Mapping[str, Any], epoch: int) -> str:
    text = json.dumps(identity, sort_keys=True, default=str)
    return f"sdoml-lite/{hashlib.sha256(text.encode()).hexdigest()[:16]}/{epoch}"


def _add(key: str, amount: int) -> int | None:
    """Add to a counter that all ranks share, and return its value.

    Return None if there is no store.
    """
    try:
        store = torch.distributed.distributed_c10d._get_default_store()  # noqa: SLF001 not public
        return int(store.add(key, amount))
    except (AttributeError, RuntimeError, ValueError):
        return None
