"""Epochs: each sample is used once, ranks have equal numbers of batches, and resuming is exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchSampler
from sdoml_core.loader.sampling.order import permutation, step_bounds

small = st.integers(1, 9)


def samplers(count, batch_size, world, *, seed=3, drop_last=False, shuffle=True):
    return [
        BatchSampler(
            range(count),
            batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world,
        )
        for rank in range(world)
    ]


def test_permutation_is_stable():
    # Saved states depend on this algorithm. If it changes, its name in the state must change too.
    assert permutation(8, 1, 2).tolist() == [5, 6, 2, 7, 4, 1, 0, 3]
    assert sorted(permutation(1000, 5, 0)) == list(range(1000))


def test_epochs_and_seeds_have_different_orders():
    orders = {tuple(permutation(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_permutation_is_uniform():
    places = np.zeros((10, 10))
    for epoch in range(4000):
        places[np.arange(10), permutation(10, 7, epoch)] += 1
    assert abs(places - 400).max() < 100


@given(st.integers(1, 200), small, small, st.booleans())
def test_each_sample_is_used_once_in_equal_numbers_of_batches(count, batch_size, world, shuffle):
    batches = [list(s) for s in samplers(count, batch_size, world, shuffle=shuffle)]
    seen = [index for rank in batches for batch in rank for index in batch]
    assert sorted(seen) == list(range(count))
    assert len({len(rank) for rank in batches}) == 1
    sizes = [len(batch) for rank in batches for batch in rank]
    assert max(sizes) <= batch_size + 1
    assert min(sizes) >= 1 or count < world


@given(st.integers(0, 200), small, small)
def test_drop_last_returns_only_full_batches(count, batch_size, world):
    batches = [list(s) for s in samplers(count, batch_size, world, drop_last=True)]
    assert {len(batch) for rank in batches for batch in rank} <= {batch_size}
    assert {len(rank) for rank in batches} == {count // (batch_size * world)}


@given(
    st.integers(1, 150),
    st.lists(st.tuples(small, small, st.integers(0, 12)), min_size=1, max_size=4),
)
@settings(max_examples=200)
def test_epoch_resumes_exactly_with_a_different_number_of_ranks(count, legs):
    """A stage is a batch size, a number of ranks, and the number of batches to deliver."""
    seen, state = [], None
    for batch_size, world, steps in legs:
        ranks = samplers(count, batch_size, world)
        for sampler in ranks:
            if state is not None:
                sampler.load_state_dict(state)
        iterators = [iter(sampler) for sampler in ranks]
        for _ in range(steps):
            step = [next(iterator, None) for iterator in iterators]
            assert len({batch is None for batch in step}) == 1  # all ranks end at the same step
            if step[0] is None:
                break
            seen += [index for batch in step for index in batch]
        states = [sampler.state_dict() for sampler in ranks]
        assert all(each == states[0] for each in states)
        state = states[0]
        if state["epoch"] == 1 or state["position"] == count:
            break
    if state["epoch"] == 0 and state["position"] < count:
        (rest,) = samplers(count, 4, 1)
        rest.load_state_dict(state)
        seen += [index for batch in rest for index in batch]
    assert sorted(seen) == list(range(count))


@given(st.integers(1, 100), small, st.integers(0, 30))
def test_resumed_epoch_keeps_its_order(count, batch_size, steps):
    (whole,) = samplers(count, batch_size, 1)
    (first,) = samplers(count, batch_size, 1)
    expected = list(whole)
    iterator = iter(first)
    for _ in range(min(steps, len(expected))):
        next(iterator)
    (second,) = samplers(count, batch_size, 1)
    second.load_state_dict(first.state_dict())
    if steps < len(expected):
        assert list(second) == expected[steps:]
    assert list(second) == list(whole)  # both iterate over the next epoch


def test_epochs_advance_and_can_be_set():
    (sampler,) = samplers(40, 8, 1)
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(sampler) == second


def test_ending_a_pass_early_advances_the_epoch():
    (sampler,) = samplers(40, 8, 1)
    one = next(iter(sampler))
    assert sampler.state_dict()["position"] == 8
    two = next(iter(sampler))
    assert sampler.state_dict() == sampler.state_dict() | {"epoch": 1, "position": 8}
    assert one != two


def test_set_epoch_restarts_a_pass_that_ended_early():
    (sampler,) = samplers(40, 8, 1)
    batches = iter(sampler)
    first = next(batches)
    next(batches)
    sampler.set_epoch(0)
    assert next(iter(sampler)) == first


def test_set_epoch_keeps_the_position_of_a_loaded_state():
    (sampler,) = samplers(40, 8, 1)
    state = sampler.state_dict() | {"epoch": 4, "position": 24}
    sampler.load_state_dict(state)
    sampler.set_epoch(4)
    assert sampler.state_dict() == state
    sampler.set_epoch(5)
    assert sampler.state_dict()["position"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 41}, "samples=41, but the loader has samples=40"),
        ({"seed": 9}, "seed=9, but the loader has seed=3"),
        ({"shuffle": False}, "shuffle=False"),
        ({"position": 41}, "position is 41, but the loader has 40 samples"),
        ({"position": None}, "must be integers, not 0 and None"),
        ({"epoch": -1}, "its epoch is -1"),
    ],
)
def test_state_with_a_different_order_is_rejected(change, message):
    (sampler,) = samplers(40, 8, 1)
    with pytest.raises(DatasetError, match=message):
        sampler.load_state_dict(sampler.state_dict() | change)


def test_invalid_ranks_are_rejected():
    with pytest.raises(DatasetError, match="rank 2 is out of range for world size 2"):
        BatchSampler(range(4), 1, rank=2, world_size=2)
    with pytest.raises(DatasetError, match="batch_size must be an integer of at least 1"):
        BatchSampler(range(4), 0)


def test_exhausted_epoch_has_no_steps():
    assert step_bounds(10, 10, batch_size=4, world_size=2, drop_last=False) == [10]


def test_leftover_samples_join_the_last_step():
    assert step_bounds(10, 0, batch_size=4, world_size=2, drop_last=False) == [0, 8, 10]
    assert step_bounds(9, 0, batch_size=4, world_size=2, drop_last=False) == [0, 9]


def test_empty_state_is_rejected() -> None:
    with pytest.raises(DatasetError, match="it lacks shuffle, seed, samples, epoch"):
        BatchSampler(range(40), 4).load_state_dict({})
