"""Together, the ranks read each sample once per epoch, regardless of what one rank did before."""

import random
import warnings
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata import stateful_dataloader as torchdata

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, BatchSampler, SDOMLlite, ShardDataset, global_state

pytestmark = [
    pytest.mark.slow,
    # These tests deliberately use more workers than some machines have cores.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
    # torchdata 0.11 calls a function that torch 2.13 deprecates.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),
]

STYLES = ("batches", "sampler", "stateful sampler", "stream", "stateful stream")


@pytest.fixture(scope="module")
def dataset(release):
    return SDOMLlite(release, ["AIA_0211"])


@dataclass
class Rank:
    """One rank's loader, and the object that keeps the loader's epoch and state."""

    loader: Any
    source: Any
    style: str
    workers: int

    def state(self) -> dict[str, Any]:
        if self.style.startswith("stateful"):
            return global_state(self.loader.state_dict())
        return self.source.state_dict()


def make(dataset, style, rank, world, *, workers=0, batch_size=4, seed=5):
    place = {"rank": rank, "world_size": world, "seed": seed}
    if style == "batches":
        loader = BatchLoader(dataset, batch_size, shuffle=True, threads=workers, **place)
        return Rank(loader, loader, style, workers)
    kind = torchdata.StatefulDataLoader if style.startswith("stateful") else DataLoader
    if style.endswith("sampler"):
        sampler = BatchSampler(dataset, batch_size, **place)
        loader = kind(dataset, batch_sampler=sampler, num_workers=workers)
        return Rank(loader, sampler, style, workers)
    stream = ShardDataset(dataset, batch_size=batch_size, threads=0, **place)
    return Rank(kind(stream, batch_size=None, num_workers=workers), stream, style, workers)


def times_of(batches):
    return [tuple(batch[1]) for batch in batches]


def take(iterator, count):
    return times_of(next(iterator) for _ in range(count))


def counted(batches):
    return Counter(time for batch in batches for time in batch)


def check(dataset, ranks):
    """Check that each sample was used once and that all ranks had the same number of batches."""
    assert len({len(batches) for batches in ranks}) == 1
    total = sum((counted(batches) for batches in ranks), Counter())
    assert total == Counter(str(time) for time in dataset.times)


def run(dataset, style, world, workers, events):
    """Read and check one epoch per event."""
    ranks = [make(dataset, style, rank, world, workers=workers) for rank in range(world)]
    orders = []
    for epoch, (event, at, new_world, new_workers) in enumerate(events):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "epoch . starts again")
            interrupt(ranks, event, at)
            # Workers do not know how many items were delivered, so ranks with workers must set the
            # epoch.
            must_set = style.endswith("stream") and any(each.workers for each in ranks)
            # A single rank would advance to the next epoch after a pass that ended early.
            if event == "set_epoch" or must_set or len(ranks) == 1:
                for each in ranks:
                    each.source.set_epoch(epoch)
            if event == "crash":
                passes, ranks = crash(dataset, ranks, at, new_world, new_workers)
            elif event == "look":
                iterator = iter(ranks[0].loader)
                first = take(iterator, 1)
                next(iter(ranks[0].loader))
                passes = [first + times_of(iterator)]
                del iterator
                passes += [times_of(each.loader) for each in ranks[1:]]
                check(dataset, passes)
            else:
                passes = [times_of(each.loader) for each in ranks]
                check(dataset, passes)
        orders.append(passes[0])
    for one, other in pairwise(orders):
        assert one[: len(other)] != other[: len(one)]


def interrupt(ranks, event, at):
    """Do something before an epoch that must not affect the epoch."""
    if event == "reseed":
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(0)
    if event == "peek":
        next(iter(ranks[0].loader))
    if event == "break":
        for each in ranks:
            take(iter(each.loader), at)


def crash(dataset, ranks, at, world, workers):
    """Stop all ranks during an epoch, and read the rest with a different number of ranks."""
    iterators = [iter(each.loader) for each in ranks]
    before = [take(iterator, at) for iterator in iterators]
    states = [each.state() for each in ranks]
    assert all(state == states[0] for state in states)
    del iterators
    style = ranks[0].style
    new = [make(dataset, style, rank, world, workers=workers) for rank in range(world)]
    for each in new:
        each.source.load_state_dict(states[0])
    after = [times_of(each.loader) for each in new]
    assert len({len(batches) for batches in after}) == 1
    total = sum(map(counted, before + after), Counter())
    assert total == Counter(str(time) for time in dataset.times)
    return before, new


def events(workers):
    return st.lists(
        st.tuples(
            st.sampled_from(["none", "peek", "look", "break", "crash", "set_epoch", "reseed"]),
            st.integers(1, 3),
            st.integers(1, 4),
            st.sampled_from(workers),
        ),
        min_size=2,
        max_size=4,
    )


relaxed = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@given(st.sampled_from(STYLES), st.integers(1, 4), events([0]))
@settings(max_examples=60, **relaxed)
def test_each_sample_is_used_once_despite_interruptions(dataset, style, world, events):
    run(dataset, style, world, 0, events)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@given(st.integers(1, 3), st.integers(1, 2), events([0, 1, 2]))
@settings(max_examples=3, **relaxed)
def test_each_sample_is_used_once_with_workers(dataset, style, world, workers, events):
    run(dataset, style, world, workers, events)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("style", STYLES)
def test_inspection_by_one_rank_does_not_change_the_epoch(dataset, style, workers):
    ranks = [make(dataset, style, rank, 2, workers=workers) for rank in range(2)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "epoch 0 starts again")
        next(iter(ranks[0].loader))
        next(iter(ranks[0].loader))
        for epoch in range(2):
            if style.endswith("stream") and workers:
                for each in ranks:
                    each.source.set_epoch(epoch)
            check(dataset, [times_of(each.loader) for each in ranks])


@pytest.mark.parametrize("style", ["batches", "sampler", "stateful sampler"])
def test_inspection_during_an_epoch_keeps_the_state(dataset, style):
    rank = make(dataset, style, 0, 1)
    other = make(dataset, style, 0, 1)
    one, two = iter(rank.loader), iter(other.loader)
    next(one), next(two)
    if style == "stateful sampler":
        next(iter(DataLoader(dataset, batch_sampler=rank.source)))
    else:
        next(iter(rank.loader))
    assert rank.state() == other.state()
    assert times_of(one) == times_of(two)
    assert times_of(rank.loader) == times_of(other.loader)


@pytest.mark.parametrize("style", ["batches", "stream"])
def test_inspection_of_a_resumed_epoch_keeps_its_state(dataset, style):
    rank = make(dataset, style, 0, 1)
    iterator = iter(rank.loader)
    before = take(iterator, 3)
    state = rank.state()
    again = make(dataset, style, 0, 1)
    again.source.load_state_dict(state)
    next(iter(again.loader))
    check(dataset, [before + times_of(again.loader)])


@pytest.mark.parametrize("style", ["batches", "sampler", "stateful sampler", "stream"])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("kept", [True, False])
def test_pass_is_complete_after_its_last_batch(dataset, style, world, kept):
    """Trainers that know the number of batches do not exhaust the iterator."""
    rank = make(dataset, style, 0, world)
    iterators, passes = [], []
    for _ in range(3):
        iterators.append(iter(rank.loader))
        passes.append(take(iterators[-1], len(rank.source)))
        if not kept:
            iterators.clear()
    if kept:
        assert next(iterators[0], None) is None
    expected = make(dataset, style, 0, world)
    assert passes == [times_of(expected.loader) for _ in range(3)]
    state = rank.source.state_dict()
    assert 60 * state["epoch"] + state["position"] == 180


def test_set_epoch_on_the_inner_sampler_takes_effect(dataset):
    loader, expected = BatchLoader(dataset, 4, shuffle=True), BatchLoader(dataset, 4, shuffle=True)
    loader.batch_sampler.sampler.set_epoch(3)
    expected.set_epoch(3)
    assert times_of(loader) == times_of(expected)


def test_ending_passes_early_without_set_epoch_causes_a_warning(dataset):
    loader = make(dataset, "batches", 0, 2).loader
    first = take(iter(loader), 2)
    assert take(iter(loader), 2) == first
    with pytest.warns(UserWarning, match=r"epoch 0 starts again: .*Call set_epoch"):
        assert take(iter(loader), 2) == first
    loader.set_epoch(1)
    assert take(iter(loader), 2) != first


def test_single_rank_gets_new_samples_after_a_pass_ends_early(dataset):
    loader = make(dataset, "batches", 0, 1).loader
    assert len({tuple(take(iter(loader), 2)) for _ in range(5)}) == 5


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_seeding_torch_does_not_repeat_an_epoch(dataset, workers, persistent):
    stream = ShardDataset(dataset, batch_size=8, seed=1)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=persistent)
    alone = ShardDataset(dataset, batch_size=8, seed=1)
    for _ in range(3):
        torch.manual_seed(0)
        assert times_of(loader) == times_of(alone)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("style", ["stateful sampler", "stateful stream", "batches"])
@pytest.mark.parametrize("ended", [True, False])
def test_state_after_a_complete_epoch_starts_the_next_epoch(dataset, style, workers, ended):
    rank = make(dataset, style, 0, 1, workers=workers)
    iterator = iter(rank.loader)
    take(iterator, len(rank.source))
    if ended:
        assert next(iterator, None) is None
    state = rank.state()
    expected = make(dataset, style, 0, 1)
    expected.source.set_epoch(1)
    again = make(dataset, style, 0, 1, workers=workers)
    again.source.load_state_dict(state)
    assert [times_of(again.loader) for _ in range(2)] == [
        times_of(expected.loader) for _ in range(2)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("style", ["stateful sampler", "stateful stream"])
def test_data_loader_resumes_after_a_complete_epoch(dataset, style, workers):
    rank = make(dataset, style, 0, 1, workers=workers)
    times_of(rank.loader)
    state = rank.loader.state_dict()
    expected = times_of(rank.loader)
    again = make(dataset, style, 0, 1, workers=workers)
    again.loader.load_state_dict(state)
    assert times_of(again.loader) == expected


@pytest.mark.parametrize("taken", [1, 4, 7, 12, 14, 15])
@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("kind", [DataLoader, torchdata.StatefulDataLoader])
def test_sampler_state_counts_delivered_batches(dataset, kind, workers, taken):
    sampler = BatchSampler(dataset, 4, seed=5)
    loader = kind(dataset, batch_sampler=sampler, num_workers=workers)
    assert len(sampler) == 15
    for count, batch in enumerate(loader, 1):
        assert len(batch[1]) == 4
        if count == taken:
            break
    state = sampler.state_dict()
    assert 60 * state["epoch"] + state["position"] == 4 * taken
    again = BatchSampler(dataset, 4, seed=5)
    again.load_state_dict(state)
    assert len(list(again)) == (15 - taken or 15)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(("workers", "taken"), [(1, 1), (2, 5), (2, 13), (3, 14), (2, 15)])
def test_stream_state_counts_items_delivered_by_workers(dataset, workers, taken, persistent):
    stream = ShardDataset(dataset, batch_size=4, seed=5)
    loader = DataLoader(stream, batch_size=None, num_workers=workers, persistent_workers=persistent)
    for epoch in range(2):
        iterator = iter(loader)
        batches = take(iterator, taken)
        state = stream.state_dict()
        assert 60 * state["epoch"] + state["position"] == 60 * epoch + 4 * taken
        again = ShardDataset(dataset, batch_size=4, seed=5)
        again.load_state_dict(state)
        rest = times_of(again)
        assert rest[: 15 - taken] == times_of(iterator)
        assert len(batches) + len(rest) == 15 + 15 * (taken == 15)


def test_unknown_stream_state_is_an_error(dataset):
    stream = ShardDataset(dataset, batch_size=4)
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    for batches in (times_of(loader), take(iter(loader), 14)):  # the workers have read all batches
        assert len(batches) > 13
        with pytest.raises(
            DatasetError, match=r"call set_epoch before state_dict\. .* use torchdata"
        ):
            stream.state_dict()
    stream.set_epoch(7)
    assert stream.state_dict() == stream.state_dict() | {"epoch": 7, "position": 0}
    singles = ShardDataset(dataset)
    iterator = iter(DataLoader(singles, batch_size=4, num_workers=2))
    next(iterator)
    with pytest.raises(DatasetError, match="is known only during iteration"):
        singles.state_dict()


def test_stream_advances_the_epoch_with_and_without_workers(dataset):
    stream = ShardDataset(dataset, batch_size=8)
    alone = ShardDataset(dataset, batch_size=8)
    for workers in (0, 2, 2, 0, 0, 1):
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        assert times_of(loader) == times_of(alone)


def test_stream_with_ranks_and_workers_warns_without_set_epoch(dataset):
    stream = ShardDataset(dataset, batch_size=8, rank=0, world_size=2)
    loader = DataLoader(stream, batch_size=None, num_workers=1)
    first = times_of(loader)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the forked worker inherits this
        with pytest.raises(UserWarning, match="epoch 0 starts again"):
            times_of(loader)
    stream.set_epoch(1)
    assert times_of(loader) != first


def test_changing_the_world_size_during_a_pass_is_an_error(dataset, monkeypatch):
    loader = BatchLoader(dataset, 4, threads=0)
    iterator = iter(loader)
    next(iterator)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    with pytest.raises(DatasetError, match=r"began as rank 0 of 1, but .* now rank 1 of 2"):
        next(iterator)
    assert len(loader) == 8
    assert len(list(loader)) == 8
