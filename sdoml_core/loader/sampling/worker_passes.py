"""Coordinate ``DataLoader`` workers, so that all of them use the same epoch in a pass.

A ``DataLoader`` does not tell the main process when it starts a pass. The workers therefore count
passes in memory that they share with the main process. The first worker of a pass takes the next
number, and the other workers use the same number. Each worker writes only to its own row, so no
lock is needed.

A worker does not know what the main process has delivered, so it cannot distinguish a complete pass
from a pass that ended early. With several ranks, only the main process sets the epoch.
"""

import multiprocessing
import os
from dataclasses import dataclass
from typing import Any, Final

import torch

from sdoml_core.errors import DatasetError

MAX_WORKERS: Final = 512
KEY: Final = 1 << 32

# Columns. A worker's row: number of its pass · KEY + key of the DataLoader iterator, epoch,
# start position (−1 if only the worker knows it), and whether it has anything to read. The last row
# belongs to the main process: number of the latest pass when the row was written, epoch, position,
# and how epoch and position were set.
NUMBER, EPOCH, START, STATE = range(4)
READING, EMPTY = range(2)
COUNTED, SET, LOADED = range(3)


@dataclass(frozen=True)
class Joined:
    """A pass that a worker has joined."""

    epoch: int
    position: int
    """Start position; −1 if it comes from the worker's own state."""
    given: int
    """Whether the main process set the epoch, loaded a state, or did neither."""
    repeated: bool
    """Whether the previous pass had the same epoch although this was not requested."""


@dataclass(frozen=True)
class LastPass:
    """The last pass that workers began."""

    epoch: int
    start: int
    """Start position; −1 if only the workers know it."""
    key: int
    """Key of the DataLoader iterator; see `WorkerPasses.join`."""


class WorkerPasses:
    """The passes of all workers that read one dataset."""

    def __init__(self) -> None:
        self._start()
        self._inherited: tuple[torch.Tensor, int] | None = None

    def _start(self) -> None:
        self._own = torch.zeros((MAX_WORKERS + 1, 4), dtype=torch.int64)
        self._own.share_memory_()  # type: ignore[no-untyped-call]
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"inherited": (self._own, self._owner)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A spawned worker uses the rows of its parent. Any other process that gets the dataset,
        # such as a rank, has separate rows for its workers.
        self._start()
        self._inherited = state["inherited"]

    def _shared(self) -> torch.Tensor:
        """Return the shared rows of the process that started this worker."""
        parent = multiprocessing.parent_process()
        pid = None if parent is None else parent.pid
        if pid == self._owner:
            return self._own
        if self._inherited is not None and pid == self._inherited[1]:
            return self._inherited[0]
        raise DatasetError(
            "this stream was created in a process other than the one that starts the workers, so "
            "the workers cannot agree on an epoch: create the stream, or call its set_epoch, in "
            "the process that starts the workers"
        )

    def give(self, epoch: int, position: int, how: int) -> None:
        """Set the epoch and the position of the next pass. Called in the main process."""
        if os.getpid() != self._owner:
            self._start()
        row = self._own[-1]
        row[STATE] = COUNTED
        row[EPOCH], row[START] = epoch, position
        row[NUMBER] = self._latest(self._own)
        row[STATE] = how

    def join(self, worker: int, key: int, *, epoch: int, loaded: bool, counts: bool) -> Joined:
        """Join the current pass, or begin the next one. Called in a worker.

        Parameters
        ----------
        worker
            ID of this worker.
        key
            Equal for the workers of one pass. Two passes may have equal keys.
        epoch, loaded
            Epoch of the worker's own state, and whether the state was loaded in the worker.
        counts
            Whether each pass advances to the next epoch automatically.
        """
        if worker >= MAX_WORKERS:
            raise DatasetError(f"a stream can have at most {MAX_WORKERS} workers")
        rows = self._shared()
        key %= KEY
        mine, given = rows[worker].tolist(), rows[-1].tolist()
        latest = self._latest(rows)
        members = [row for row in rows[:-1].tolist() if latest and row[NUMBER] // KEY == latest]
        joins = bool(members) and mine[NUMBER] // KEY < latest and members[0][NUMBER] % KEY == key
        number = latest if joins else latest + 1
        position, how = 0, COUNTED
        if given[STATE] != COUNTED and given[NUMBER] == number - 1:
            how = given[STATE]
            if loaded and epoch == given[EPOCH]:
                position = -1
            else:
                epoch, position = given[EPOCH], given[START]
        elif loaded or not members:
            position = -1
        elif joins:
            epoch = members[0][EPOCH]
        else:
            empty = all(row[STATE] == EMPTY for row in members)
            epoch = members[0][EPOCH] + (counts or empty)
        counted = how == COUNTED and not loaded
        repeated = counted and mine[NUMBER] > 0 and mine[EPOCH] == epoch
        row = rows[worker]
        row[EPOCH], row[START], row[STATE] = epoch, position, READING
        row[NUMBER] = number * KEY + key
        return Joined(epoch, position, how, repeated)

    def correct(self, worker: int, *, epoch: int, start: int, empty: bool) -> None:
        """Record the position from which this worker actually reads.

        Parameters
        ----------
        worker
            ID of this worker.
        epoch
            Epoch of the pass.
        start
            Start position; −1 if the worker continues from its own state.
        empty
            Whether this worker has nothing to read.
        """
        row = self._shared()[worker]
        row[EPOCH], row[START] = epoch, start
        row[STATE] = EMPTY if empty else READING

    def last(self) -> LastPass | None:
        """Return the last pass that workers began. Called in the main process.

        Return None if no worker has begun a pass since the main process last set the epoch or the
        position.
        """
        latest = self._latest(self._own)
        if os.getpid() != self._owner or latest <= int(self._own[-1, NUMBER]):
            return None
        row = next(row for row in self._own[:-1].tolist() if row[NUMBER] // KEY == latest)
        return LastPass(row[EPOCH], row[START], row[NUMBER] % KEY)

    @staticmethod
    def _latest(rows: torch.Tensor) -> int:
        return int(rows[:-1, NUMBER].max()) // KEY
