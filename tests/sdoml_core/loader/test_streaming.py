"""Streams and batches return each sample once, with any number of ranks and workers."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchdata import stateful_dataloader as torchdata

from sdoml_core.errors import DamagedFileError, DatasetError
from sdoml_core.loader import (
    BatchLoader,
    BatchSampler,
    SDOMLlite,
    SDOMLliteSequences,
    ShardDataset,
    global_state,
    shard_dataset,
)
from tests.support.synthetic_shards import at, frame

# These tests deliberately use more workers than some machines have cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
# torchdata 0.11 calls a function that torch 2.13 deprecates.
stateful = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def check(tensors, times):
    for tensor, time in zip(tensors, times, strict=True):
        np.testing.assert_array_equal(tensor[0].numpy(), frame(at(time), "HMI_M"))
        np.testing.assert_array_equal(tensor[5].numpy(), frame(at(time), "AIA_1600"))


def times_of(batches):
    return [tuple(times) for _, times in batches]


def flat(batches):
    return [time for times in times_of(batches) for time in times]


@pytest.fixture(scope="module")
def dataset(release):
    return SDOMLlite(release)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_have_the_pixels_of_their_times(dataset, threads):
    loader = BatchLoader(dataset, 8, shuffle=True, seed=1, threads=threads)
    batches = list(loader)  # all batches stay in use, so none may be overwritten
    assert len(batches) == len(loader) == 8
    for tensors, times in batches:
        assert tensors.dtype == torch.float32
        check(tensors, times)
    assert sorted(flat(batches)) == [str(time) for time in dataset.times]


@pytest.mark.parametrize("count", [-1, 1.5, "2", None])
@pytest.mark.parametrize("name", ["threads", "prefetch"])
def test_threads_and_prefetch_must_be_nonnegative_integers(release, dataset, name, count):
    message = f"^{name} must be an integer of at least 0, not {count!r}$"
    for kind in (BatchLoader, ShardDataset):
        with pytest.raises(DatasetError, match=message):
            kind(dataset, **{name: count})
    if name == "threads":
        with pytest.raises(DatasetError, match=message):
            SDOMLlite(release, threads=count)


@pytest.mark.parametrize("threads", [0, 1, np.int64(2)])
def test_any_number_of_threads_reads_the_same_samples(release, dataset, threads):
    samples = SDOMLlite(release, threads=threads).__getitems__([4, 50, 7])
    check(*zip(*samples, strict=True))
    assert len(samples) == 3
    stream = ShardDataset(dataset, threads=threads, prefetch=0, seed=3)
    assert [time for _, time in stream] == [time for _, time in ShardDataset(dataset, seed=3)]


def test_threads_and_prefetch_do_not_change_batches(dataset):
    expected = times_of(BatchLoader(dataset, 8, shuffle=True, threads=0))
    for threads, prefetch in ((1, 0), (2, 1), (4, 20)):
        loader = BatchLoader(dataset, 8, shuffle=True, threads=threads, prefetch=prefetch)
        assert times_of(loader) == expected


def test_ranks_share_batches_of_an_epoch(dataset):
    ranks = [
        list(BatchLoader(dataset, 7, shuffle=True, rank=rank, world_size=3)) for rank in range(3)
    ]
    assert sorted(time for rank in ranks for time in flat(rank)) == [
        str(time) for time in dataset.times
    ]
    assert len({len(rank) for rank in ranks}) == 1


@pytest.mark.parametrize("stop", [0, 1, 5, 8])
def test_batches_resume_exactly_despite_prefetch(dataset, stop):
    loader = BatchLoader(dataset, 8, shuffle=True, seed=4, prefetch=3)
    iterator = iter(loader)
    before = [next(iterator) for _ in range(stop)]
    state = loader.state_dict()
    again = BatchLoader(dataset, 4, shuffle=True, seed=4, threads=1)
    again.load_state_dict(state)
    epochs = BatchLoader(dataset, 8, shuffle=True, seed=4)
    first, second = flat(epochs), flat(epochs)
    assert flat(before) + flat(again) == (first if stop < 8 else first + second)


def test_invalid_arguments_are_rejected(dataset):
    with pytest.raises(DatasetError, match=r"a BatchLoader needs an SDOMLlite, .* not 'data/s"):
        BatchLoader("data/shards")
    with pytest.raises(DatasetError, match="batch_size must be an integer of at least 1, not '8'"):
        BatchLoader(dataset, "8")
    with pytest.raises(DatasetError, match=r"a channel must be a string .*, not 171"):
        SDOMLlite(dataset.data_dir, [171])


def test_thread_error_reaches_the_caller(dataset, monkeypatch):
    def fail(*_, **__):
        raise DamagedFileError("planted")

    monkeypatch.setattr(dataset.reader.files, "read_into", fail)
    with pytest.raises(DamagedFileError, match="planted"):
        list(BatchLoader(dataset, 8))
    with pytest.raises(DamagedFileError, match="planted"):
        dataset.__getitems__([0, 1])


def test_batches_of_sequences_match_the_individual_sequences(dataset):
    sequences = SDOMLliteSequences(dataset, past=3, horizon=timedelta(minutes=30))
    for batch in BatchLoader(sequences, 5, shuffle=True):
        for number, time in enumerate(batch["time"]):
            item = sequences[int(np.searchsorted(sequences.times, np.datetime64(time)))]
            assert torch.equal(batch["past"][number], item["past"])
            assert torch.equal(batch["future"][number], item["future"])
            assert batch["times"][number] == item["times"]


def test_batches_are_pinned_only_with_a_gpu(dataset):
    tensors, times = next(iter(BatchLoader(dataset, 8, pin_memory=True)))
    assert tensors.is_pinned() == torch.accelerator.is_available()
    check(tensors, times)


def test_only_the_tensors_in_a_batch_are_pinned(release, monkeypatch):
    pinned = []

    def pin(tensor):
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr("sdoml_core.loader.batches._can_pin", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    dataset = SDOMLlite(release, metadata=True)
    plain = next(iter(BatchLoader(dataset, 4)))
    batch = next(iter(BatchLoader(dataset, 4, pin_memory=True)))
    assert [tensor is pinned[0] for tensor in batch] == [True, False, False]
    assert torch.equal(batch[0], plain[0])
    assert batch[1:] == plain[1:]
    sequences = SDOMLliteSequences(dataset, past=2, horizon=timedelta(minutes=15), gaps="mask")
    plain = next(iter(BatchLoader(sequences, 3)))
    batch = next(iter(BatchLoader(sequences, 3, pin_memory=True)))
    for name in ("past", "future", "mask"):
        assert any(batch[name] is tensor for tensor in pinned)
        assert torch.equal(batch[name], plain[name])
    assert [batch[name] for name in ("time", "times")] == [plain["time"], plain["times"]]
    assert len(pinned) == 4


def test_batch_has_no_future_if_its_sequences_have_none(dataset):
    sequences = SDOMLliteSequences(dataset, past=2)
    batch = next(iter(BatchLoader(sequences, 3)))
    assert set(batch) == {"past", "time", "times"}
    assert torch.equal(batch["past"][2], sequences[2]["past"])


def test_transform_is_applied_to_each_sequence_in_a_batch(dataset):
    def transform(item):
        return {"mean": item["past"].mean(), "time": item["time"]}

    sequences = SDOMLliteSequences(dataset, past=2, transform=transform)
    batch = next(iter(BatchLoader(sequences, 3)))
    assert batch["mean"].tolist() == [float(sequences[n]["mean"]) for n in range(3)]
    assert batch["time"] == [sequences[n]["time"] for n in range(3)]


def test_batches_include_metadata_and_apply_transforms(release):
    dataset = SDOMLlite(release, metadata=True, transform=lambda tensor: tensor.sum())
    sums, times, facts = next(iter(BatchLoader(dataset, 4)))
    assert sums.shape == (4,)
    assert facts[2] == dataset[times[2]][2]


@pytest.mark.parametrize("batch_size", [None, 8])
def test_stream_contains_each_sample_once(dataset, batch_size):
    stream = ShardDataset(dataset, batch_size=batch_size)
    items = list(stream)
    assert len(items) == len(stream)
    if batch_size is None:
        items = [(tensor[None], [time]) for tensor, time in items]
    for tensors, times in items:
        check(tensors, times)
    assert sorted(flat(items)) == [str(time) for time in dataset.times]


def test_stream_reads_shard_by_shard_within_its_buffer(dataset):
    shard = dataset.reader.catalog.shard[dataset.rows]
    in_order = ShardDataset(dataset, buffer=1)
    orders = [in_order.order(epoch) for epoch in range(6)]
    for order in orders:
        # Shards are read one after another, and their order differs between epochs.
        assert (np.diff(shard[order]) != 0).sum() == 2
        assert all((np.diff(order[shard[order] == number]) > 0).all() for number in range(3))
    assert len({tuple(order) for order in orders}) > 1
    unmoved = in_order.order(0)
    moved = ShardDataset(dataset, buffer=10).order(0)
    place = np.argsort(unmoved)
    assert (moved != unmoved).any()
    assert abs(place[moved] - np.arange(len(moved))).max() < 10
    one = dataset.within([(dataset.times[0], dataset.times[10])])  # only one shard
    assert len({tuple(ShardDataset(one).order(epoch)) for epoch in range(4)}) == 4
    assert ShardDataset(dataset, shuffle=False).order(3).tolist() == list(range(60))


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.slow
def test_workers_return_the_same_batches(release, context):
    expected = times_of(shard_dataset(release, batch_size=8))
    stream = shard_dataset(release, batch_size=8)
    loader = DataLoader(stream, batch_size=None, num_workers=2, multiprocessing_context=context)
    batches = list(loader)
    for tensors, times in batches:
        check(tensors, times)
    assert times_of(batches) == expected


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_agree_on_the_epoch(release, persistent):
    alone = shard_dataset(release, batch_size=8)
    expected = [times_of(alone) for _ in range(3)]
    stream = shard_dataset(release, batch_size=8)
    loader = DataLoader(stream, batch_size=None, num_workers=3, persistent_workers=persistent)
    assert [times_of(loader) for _ in range(3)] == expected
    stream.set_epoch(1)
    assert [times_of(loader), times_of(loader)] == expected[1:]


def test_workers_return_each_sample_once(release):
    stream = shard_dataset(release)
    loader = DataLoader(stream, batch_size=8, num_workers=2)
    assert sorted(flat(loader)) == [str(time) for time in stream.dataset.times]


@pytest.mark.parametrize("batch_size", [None, 4])
def test_ranks_share_a_stream(dataset, batch_size):
    streams = [
        ShardDataset(dataset, batch_size=batch_size, rank=rank, world_size=7) for rank in range(7)
    ]
    seen = []
    for stream in streams:
        items = list(stream)
        assert len(items) == len(stream)
        seen += [t for _, times in items for t in ([times] if batch_size is None else times)]
    assert sorted(seen) == [str(time) for time in dataset.times]
    if batch_size:
        assert len({len(stream) for stream in streams}) == 1


@given(st.integers(1, 7), st.integers(1, 5), st.integers(0, 60), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_stream_resumes_with_a_different_number_of_ranks(
    dataset, batch_size, world, steps, new_world
):
    streams = [
        ShardDataset(dataset, batch_size=batch_size, rank=rank, world_size=world, threads=0)
        for rank in range(world)
    ]
    seen = []
    for stream in streams:
        iterator = iter(stream)
        for _ in range(min(steps, len(stream))):
            seen += next(iterator)[1]
    state = streams[0].state_dict()
    for rank in range(new_world if len(seen) < len(dataset) else 0):
        again = ShardDataset(dataset, batch_size=3, rank=rank, world_size=new_world, threads=0)
        again.load_state_dict(state)
        seen += flat(again)
    assert sorted(seen) == [str(time) for time in dataset.times]


@stateful
@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("new_workers", [0, 2])
@pytest.mark.parametrize("kind", ["map", "stream"])
def test_torchdata_loader_resumes(dataset, kind, workers, new_workers):
    def make(workers, state=None):
        if kind == "map":
            sampler = BatchSampler(dataset, 8, seed=2)
            if state:
                sampler.load_state_dict(state)
            options = {"dataset": dataset, "batch_sampler": sampler}
        else:
            stream = ShardDataset(dataset, batch_size=8, seed=2)
            if state:
                stream.load_state_dict(state)
            options = {"dataset": stream, "batch_size": None}
        return torchdata.StatefulDataLoader(num_workers=workers, **options)

    loader = make(workers)
    iterator = iter(loader)
    before = [next(iterator) for _ in range(3)]
    state = loader.state_dict()
    rest = times_of(iterator)
    assert len(rest) == 5
    same = make(workers)
    same.load_state_dict(state)
    assert times_of(same) == rest
    other = make(new_workers, global_state(state))
    assert times_of(other) == rest
    assert len(set(flat(before)) | {t for times in rest for t in times}) == 60
    assert len(times_of(other)) == 8  # the next epoch is complete


def test_pass_that_ends_early_is_followed_by_a_complete_one(dataset):
    stream = ShardDataset(dataset, batch_size=8)
    iterator = iter(stream)
    for _ in range(3):
        next(iterator)
    following = ShardDataset(dataset, batch_size=8)
    following.set_epoch(1)
    assert times_of(stream) == times_of(following)


def test_set_epoch_keeps_the_position_of_a_loaded_state(dataset):
    whole = ShardDataset(dataset, batch_size=8)
    whole.set_epoch(4)
    iterator = iter(whole)
    for _ in range(3):
        next(iterator)
    state = whole.state_dict()
    stream = ShardDataset(dataset, batch_size=8)
    stream.load_state_dict(state)
    stream.set_epoch(4)
    assert times_of(stream) == times_of(iterator)
    stream.load_state_dict(state)
    stream.set_epoch(5)
    assert len(list(stream)) == len(stream)


def test_epoch_can_be_set_and_resumed(dataset):
    loader = BatchLoader(dataset, 8, shuffle=True)
    epochs = [times_of(loader) for _ in range(3)]
    loader.set_epoch(1)
    assert times_of(loader) == epochs[1]
    loader.set_epoch(1)
    next(iter(loader))
    loader.load_state_dict(loader.state_dict())
    loader.set_epoch(1)
    assert times_of(loader) == epochs[1][1:]


def test_workers_continue_from_a_state_loaded_after_a_pass(dataset):
    stream = ShardDataset(dataset, batch_size=8)
    state = stream.state_dict() | {"epoch": 5, "position": 16, "step": 0}
    loader = DataLoader(stream, batch_size=None, num_workers=2)
    for _ in range(2):
        list(loader)
    stream.load_state_dict(state)
    alone = ShardDataset(dataset, batch_size=8)
    alone.load_state_dict(state)
    assert times_of(loader) == times_of(alone)


@stateful
@pytest.mark.parametrize("workers", [1, 2])
def test_set_epoch_overrides_a_state_from_another_epoch(dataset, workers):
    def make():
        stream = ShardDataset(dataset, batch_size=8)
        return stream, torchdata.StatefulDataLoader(stream, batch_size=None, num_workers=workers)

    _, loader = make()
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = loader.state_dict()
    expected = ShardDataset(dataset, batch_size=8)
    expected.set_epoch(2)
    stream, again = make()
    again.load_state_dict(state)
    stream.set_epoch(2)
    # torchdata resumes with the worker that was next, so the order differs.
    assert sorted(times_of(again)) == sorted(times_of(expected))


@stateful
def test_state_of_single_samples_from_several_workers_is_rejected(release):
    loader = torchdata.StatefulDataLoader(shard_dataset(release), batch_size=4, num_workers=2)
    iterator = iter(loader)
    before = flat([next(iterator), next(iterator), next(iterator)])
    state = loader.state_dict()
    with pytest.raises(DatasetError, match="with the same number of workers"):
        global_state(state)
    same = torchdata.StatefulDataLoader(shard_dataset(release), batch_size=4, num_workers=2)
    same.load_state_dict(state)
    assert len({*before, *flat(same)}) == 60


def test_states_from_other_loaders_are_rejected(dataset):
    stream = ShardDataset(dataset, batch_size=4)
    with pytest.raises(DatasetError, match="buffer=256"):
        ShardDataset(dataset, buffer=8).load_state_dict(stream.state_dict())
    with pytest.raises(DatasetError, match="does not come from a BatchSampler"):
        global_state({"_snapshot": {"x": 1}})
    with pytest.raises(DatasetError, match="buffer must be at least 1"):
        ShardDataset(dataset, buffer=0)
