"""States of torchdata's ``StatefulDataLoader``, freed from the number of its workers."""

from collections.abc import Iterator, Mapping
from typing import Any

from sdoml_core.errors import DatasetError
from sdoml_core.loader.streaming import position_of


def global_state(loader_state: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of a whole job, out of the state of a ``StatefulDataLoader`` of one rank.

    The loader itself takes its state back only with as many workers as it had. Give what this
    returns to ``load_state_dict`` of the `BatchSampler` or the `ShardDataset`, and make a new
    loader with any number of ranks and workers.

    Parameters
    ----------
    loader_state
        From ``StatefulDataLoader.state_dict()``; the ranks, which go in step, have equal ones.

    Raises
    ------
    DatasetError
        If it has no state of this package, or that of samples given singly by several workers,
        whose progress is not one number.
    """
    states = list(_states(loader_state))
    if not states:
        raise DatasetError("there is no state of a BatchSampler or ShardDataset in this state")
    epoch = min(state["epoch"] for state in states)
    states = [state for state in states if state["epoch"] == epoch]
    if "step" not in states[0]:
        return dict(states[-1])
    if states[0]["batch_size"] is None and len(states) > 1:
        raise DatasetError(
            "samples given singly by several workers can only go on with as many workers; "
            "shard_dataset(…, batch_size=…) makes the state independent of them"
        )
    last = max(states, key=lambda state: int(state["step"]))
    return dict(last) | {"position": position_of(last), "step": 0}


def _states(value: Any) -> Iterator[dict[str, Any]]:
    """All states of this package in nested dictionaries."""
    if isinstance(value, Mapping):
        if {"epoch", "position", "samples", "seed"} <= value.keys():
            yield dict(value)
        else:
            for item in value.values():
                yield from _states(item)
