"""Rank and world size, which are determined when a pass begins."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import get_worker_info

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts


@dataclass(frozen=True)
class Place:
    """Rank of this process among the processes that share an epoch."""

    rank: int
    world_size: int


class World:
    """The given rank and world size, or the values that torch.distributed currently reports.

    A loader is often created before ``init_process_group``, for example when it is passed to a
    trainer. Values are therefore looked up only when they are needed.

    Raises
    ------
    DatasetError
        If both numbers are given and the rank is out of range.
    """

    def __init__(self, rank: int | None, world_size: int | None):
        self._rank = rank
        self._world_size = world_size
        self._parent: Place | None = None
        if world_size is not None:
            check_counts(1, world_size=world_size)
            if rank is not None:
                self.place()

    def place(self) -> Place:
        """Return the current rank and world size.

        Raises
        ------
        DatasetError
            If the rank is out of range.
        """
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            known = Place(torch.distributed.get_rank(), torch.distributed.get_world_size())
        elif self._parent is not None and get_worker_info() is not None:
            known = self._parent
        else:
            known = Place(0, 1)
        rank = known.rank if self._rank is None else self._rank
        world_size = known.world_size if self._world_size is None else self._world_size
        if not 0 <= rank < world_size:
            raise DatasetError(f"rank {rank} is out of range for world size {world_size}")
        return Place(rank, world_size)

    def is_distributed(self) -> bool:
        """Return whether the rank comes from torch.distributed because no rank was given."""
        given = self._rank is not None or self._world_size is not None
        group = torch.distributed.is_available() and torch.distributed.is_initialized()
        return group and not given

    def __getstate__(self) -> dict[str, Any]:
        # A spawned worker has no process group, so it needs its parent's values.
        parent = None
        with contextlib.suppress(DatasetError):  # there is no process group yet
            parent = self.place()
        return self.__dict__ | {"_parent": parent}
