"""The cursor of an epoch: the epoch and start position of the next pass.

All ranks must read the same epoch. With several ranks, the epoch therefore changes only after
`set_epoch`, a loaded state, or a complete pass. With one rank, it also changes after a pass that
ends early, so a loop that always stops early still gets new samples.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.sampling.agreement import count_begin, ranks_that_began, warn_of_lone_pass
from sdoml_core.loader.sampling.order import Order, share, step_bounds
from sdoml_core.loader.sampling.world import Place, World

LOOK = 1
"""A pass with at most this many batches is treated as an inspection of the data."""


class Pass:
    """One pass of one rank over an epoch, or over the rest of it.

    Attributes
    ----------
    epoch
        Number of the epoch.
    start
        Number of samples of the epoch that were used before this pass.
    bounds
        Positions at which the steps begin, from `start` on, and the end of the last step.
    first
        First step of this pass.
    step
        Number of steps that have been delivered, including those before `first`.
    """

    def __init__(
        self,
        cursor: "Cursor",
        epoch: int,
        start: int,
        first: int,
        *,
        place: Place,
        outer: "Pass | None" = None,
    ):
        self.epoch, self.start, self.first = epoch, start, first
        self.step = first
        self.place = place
        self.bounds = cursor.bounds(start, place)
        self.open = True
        self.generation = cursor.generation
        self._cursor = cursor
        self._outer = outer
        self._order: NDArray[np.int64] | None = None

    @property
    def steps(self) -> int:
        """Number of steps, including those before `first`."""
        return len(self.bounds) - 1

    @property
    def all_taken(self) -> bool:
        """Whether every batch was delivered. Some trainers then stop before the iterator ends.

        False for a pass with a single batch, because it may have been an inspection.
        """
        return self.step >= self.steps and self.step - self.first > LOOK

    @property
    def position(self) -> int:
        """Number of samples of the epoch that have been delivered on all ranks."""
        return self.bounds[min(self.step, self.steps)]

    def indices(self, step: int) -> list[int]:
        """Return the samples of this rank in a step.

        Raises
        ------
        DatasetError
            If the rank or the world size changed since the pass began.
        """
        self._cursor.check(self.place)
        if self._order is None:
            self._order = self._cursor.order(self.epoch)
        start, stop = self.bounds[step : step + 2]
        part = share(start, stop, rank=self.place.rank, world_size=self.place.world_size)
        return [int(index) for index in self._order[part]]

    def deliver(self, step: int) -> None:
        """Record that all steps before `step` have been delivered."""
        self.step = step
        self._cursor.current = self

    def finish(self) -> None:
        """Record that the pass is complete, so the next pass reads the next epoch."""
        if self.open:
            self.open = False
            self._cursor.finished(self)

    def leave(self) -> None:
        """Record that the pass ended early, and return to the pass that it interrupted."""
        if self.all_taken:
            self.finish()
        self.open = False
        if self._cursor.current is self and self._outer is not None and self._outer.open:
            self._cursor.current = self._outer


class Cursor:
    """Epoch and position of the next pass, and the current pass.

    Parameters
    ----------
    count
        Number of samples.
    order
        Order of each epoch.
    batch_size, drop_last
        See `sdoml_core.loader.sampling.order.step_bounds`.
    rank, world_size
        See `sdoml_core.loader.BatchSampler`.
    identity
        Other values that must match when a state is loaded, such as the seed.
    """

    def __init__(
        self,
        count: int,
        order: Order,
        *,
        batch_size: int | None,
        drop_last: bool,
        rank: int | None,
        world_size: int | None,
        identity: dict[str, Any],
    ):
        if batch_size is not None:
            check_counts(1, batch_size=batch_size)
        self.world = World(rank, world_size)
        self.order = order
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.current: Pass | None = None
        self.generation = 0
        """Number of times that an epoch was set or a state was loaded. A pass that began before the
        latest of these calls does not change the epoch."""
        self.epoch = self.position = self.step = 0
        self._given = (0, 0, 0)
        self._epoch_is_set = False
        self._looked = False
        self._restarts = 0
        self._lone_ranks: int | None = None
        """Number of ranks that had begun the previous epoch when this rank completed it. None if
        all had begun it."""
        self._last_place: Place | None = None
        self._count = count
        self._identity = identity | {"samples": count}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"current": None}

    def bounds(self, position: int = 0, place: Place | None = None) -> list[int]:
        """Return where the steps begin, starting at a position, and where the last step ends."""
        return step_bounds(
            self._count,
            position,
            batch_size=self.batch_size,
            world_size=(place or self.world.place()).world_size,
            drop_last=self.drop_last,
        )

    def check(self, place: Place) -> None:
        """Check that the rank and the world size have not changed during a pass.

        Raises
        ------
        DatasetError
            If either has changed.
        """
        now = self.world.place()
        if now != place:
            raise DatasetError(
                f"this pass began as rank {place.rank} of {place.world_size}, but this process is "
                f"now rank {now.rank} of {now.world_size}: start a new pass after "
                "init_process_group"
            )

    def begin(self) -> Pass:
        """Start the next pass."""
        place = self.world.place()
        left = self.current
        if left is not None and left.all_taken:
            left.finish()
            left = None
        self.current = None
        if self._last_place not in {None, place}:
            # Ignore passes with a different world size, because not all ranks may have completed
            # them.
            self.epoch, self.position, self.step = self._given
        elif left is not None and left.generation == self.generation and left.step > left.first:
            self._after_a_pass_that_was_left(left, place)
        self._last_place = place
        started = self.position + self.step > 0
        if started and not self._epoch_is_set:
            steps = len(self.bounds(self.position, place)) - 1
            if self.step >= steps:  # the loaded state is at the end of its epoch
                self.epoch, self.position, self.step = self.epoch + 1, 0, 0
        if self._shared():
            if self._lone_ranks is not None:
                warn_of_lone_pass(self.epoch - 1, self._lone_ranks, place.world_size)
                self._lone_ranks = None
            count_begin(self._identity, self.epoch)
        return Pass(self, self.epoch, self.position, self.step, place=place, outer=left)

    def _after_a_pass_that_was_left(self, left: Pass, place: Place) -> None:
        """Stay at the start of the pass, or advance to the next epoch."""
        if place.world_size == 1:
            look = left.step - left.first <= LOOK and left.start + left.first > 0
            if look and not self._looked:
                self._looked = True  # keep the loaded state if a resumed epoch is only inspected
            else:
                self.epoch, self.position, self.step = left.epoch + 1, 0, 0
            return
        self._restarts += 1
        if self._restarts > 1 and self._identity.get("shuffle"):
            warn_of_repeated_epoch(self.epoch)

    def finished(self, done: Pass) -> None:
        """Advance to the next epoch, unless an epoch was set during the pass."""
        self.current = None
        if done.generation == self.generation:
            self._go_to(done.epoch + 1)
            if self._shared():
                ranks = ranks_that_began(self._identity, done.epoch)
                if ranks is not None and ranks < done.place.world_size:
                    self._lone_ranks = ranks

    def _shared(self) -> bool:
        """Return whether ranks at different epochs would read different samples."""
        return bool(self._identity.get("shuffle")) and self.world.is_distributed()

    def _go_to(self, epoch: int) -> None:
        self.epoch, self.position, self.step = epoch, 0, 0
        self._epoch_is_set = self._looked = False
        self._restarts = 0
        self._lone_ranks = None

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next pass. A position that was loaded for this epoch is kept."""
        check_counts(epoch=epoch)
        if epoch != self.epoch:
            self._go_to(epoch)
        self._restarts = 0
        self._lone_ranks = None
        self._epoch_is_set = True
        self._give()

    def _give(self) -> None:
        """Apply an epoch that was set or loaded, which takes precedence over earlier passes."""
        self.current = None
        self.generation += 1
        self._given = (self.epoch, self.position, self.step)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of all ranks together."""
        epoch, position, step = self.epoch, self.position, self.step
        if self.current is not None:
            epoch, position, step = self.current.epoch, self.current.position, 0
        if step:
            bounds = self.bounds(position)
            position = bounds[min(step, len(bounds) - 1)]
        return self._identity | {"epoch": epoch, "position": position}

    def load_state_dict(self, state: dict[str, Any], *, step: int = 0) -> None:
        """Continue from a state that any rank saved, with any world size.

        Raises
        ------
        DatasetError
            If the state is invalid, or belongs to different samples or a different order.
        """
        absent = [key for key in self.state_dict() if key not in state]
        if absent:
            raise DatasetError(
                f"this state is from a different kind of loader: it lacks {', '.join(absent)}"
            )
        for key, value in ({"weights": None} | self._identity).items():
            if state.get(key) != value:
                raise DatasetError(
                    f"this state has {key}={state.get(key)!r}, but the loader has "
                    f"{key}={value!r}: create the loader with the same arguments and data as before"
                )
        epoch, position = state["epoch"], state["position"]
        if not isinstance(epoch, int) or not isinstance(position, int):
            raise DatasetError(
                "this state is invalid: epoch and position must be integers, not "
                f"{epoch!r} and {position!r}"
            )
        if epoch < 0:
            raise DatasetError(f"this state is invalid: its epoch is {epoch}")
        if not 0 <= position <= self._count:
            raise DatasetError(
                f"this state is invalid: its position is {position}, but the loader has "
                f"{self._count} samples"
            )
        self._go_to(epoch)
        self.position, self.step = position, step
        self._give()


def in_order(run: Pass) -> Iterator[tuple[list[int], int]]:
    """Yield the samples of each batch in a pass, and the number of steps completed after it."""
    for step in range(run.first, run.steps):
        yield run.indices(step), step + 1


def warn_of_repeated_epoch(epoch: int) -> None:
    """Warn that an epoch is repeated in the same order."""
    warnings.warn(
        f"epoch {epoch} starts again: with several ranks, a pass that ended early does not "
        "change the epoch. Call set_epoch(epoch) before each pass",
        UserWarning,
        stacklevel=2,
    )
