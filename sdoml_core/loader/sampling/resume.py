"""Convert states of torchdata's ``StatefulDataLoader`` for any number of workers."""

from collections.abc import Iterator, Mapping
from typing import Any

from sdoml_core.errors import DatasetError
from sdoml_core.loader.sampling.order import step_bounds


def global_state(loader_state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the progress of a whole job from the ``StatefulDataLoader`` state of one rank.

    The data loader itself accepts a state only from the same number of workers. Pass the result of
    this function to ``load_state_dict`` of the `BatchSampler` or the `ShardDataset`, and create a
    new data loader with any number of ranks and workers.

    Parameters
    ----------
    loader_state
        State from ``StatefulDataLoader.state_dict()``. All ranks have the same state after the same
        batch.

    Raises
    ------
    DatasetError
        If the state is not from this package, or if several workers read single samples (no
        ``batch_size``), because their progress is not a single number.
    """
    states = list(_states(loader_state))
    if not states:
        raise DatasetError("this state does not come from a BatchSampler or ShardDataset")
    # Prefer states of `Batches`, which torchdata stores with each batch. The state of the sampler
    # counts delivered batches instead.
    states = [state for state in states if state.get("taken")] or states
    epoch = min(state["epoch"] for state in states)
    states = [state for state in states if state["epoch"] == epoch]
    if "step" not in states[0]:
        return {key: value for key, value in states[-1].items() if key != "taken"}
    if states[0]["batch_size"] is None and len(states) > 1:
        raise DatasetError(
            "this state is from a stream of single samples, which can resume only with the same "
            "number of workers; use shard_dataset(…, batch_size=…) to resume with any number"
        )
    last = max(states, key=lambda state: int(state["step"]))
    return dict(last) | {"position": position_of(last), "step": 0}


def position_of(state: Mapping[str, Any]) -> int:
    """Return how many samples of the epoch had been used when a `ShardDataset` saved a state."""
    bounds = step_bounds(
        state["samples"],
        state["position"],
        batch_size=state["batch_size"],
        world_size=state["world_size"],
        drop_last=state["drop_last"],
    )
    return bounds[min(int(state["step"]), len(bounds) - 1)]


def _states(value: Any) -> Iterator[dict[str, Any]]:
    """Yield all states from this package that nested dictionaries contain."""
    if isinstance(value, Mapping):
        if {"epoch", "position", "samples", "seed"} <= value.keys():
            yield dict(value)
        else:
            for item in value.values():
                yield from _states(item)
