"""Combined datasets: several folders, subsets, concatenations and weighted mixtures."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.loader import BatchLoader, BatchSampler, SDOMLlite, SDOMLliteSequences
from tests.support.synthetic_shards import FIRST, at, frame, write_day, write_release

CHANNELS = ["AIA_0171", "HMI_M"]


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two folders with one day each: a release, and daily shards."""
    root = tmp_path_factory.mktemp("days")
    write_release(root / "a", 1)
    write_day(root / "b", FIRST + timedelta(days=1))
    return root


def check(images, times):
    for image, time in zip(images, times, strict=True):
        for pixels, channel in zip(image, CHANNELS, strict=True):
            np.testing.assert_array_equal(pixels.numpy(), frame(at(time), channel))


def test_folders_are_merged(days):
    both = SDOMLlite([days / "a", days / "b"], CHANNELS, metadata=True, verify=True)
    assert len(both) == 48
    for images, times, facts in BatchLoader(both, 7, shuffle=True):
        check(images, times)
        assert facts[0]["AIA_0171"]["exposure"] == 2.9
    across = SDOMLliteSequences(both, past=2, stride=timedelta(days=1))
    item = across[0]
    check(item["past"], item["times"])
    assert item["times"] == ["2022-11-01T00:00:00", "2022-11-02T00:00:00"]


def test_incompatible_folders_are_rejected(days, tmp_path):
    write_day(tmp_path / "other", FIRST + timedelta(days=2), version="ffff")
    with pytest.raises(
        NormalizationError, match=r"AIA_0094 .* different constants: \w+ in .*a, ffff in"
    ):
        SDOMLlite([days / "a", tmp_path / "other"], CHANNELS)
    with pytest.raises(
        DatasetError,
        match=r"AIA_0094 at 2022-11-01T00:00:00 is in both .*001.tar in .*a and .*a; pass",
    ):
        SDOMLlite([days / "a", days / "a"], CHANNELS)
    with pytest.raises(DatasetError, match="empty list"):
        SDOMLlite([], CHANNELS)


def test_list_of_times_defines_the_order(release):
    dataset = SDOMLlite(release, CHANNELS)
    times = ["2022-11-03T00:15:00", "2022-11-01T00:00:00", "2022-11-03T00:15:00"]
    chosen = dataset.at(times)
    assert [chosen[number][1] for number in range(3)] == times
    images, found = next(iter(BatchLoader(chosen, 3)))
    assert found == times
    check(images, found)
    with pytest.raises(DatasetError, match="no sample at 2022-11-01T00:07:00"):
        dataset.at(["2022-11-01T00:07"])


class Wrapped(Dataset):
    """A map-style dataset from another project."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, number):
        image, time = self.dataset[number]
        return {"image": image, "time": time}


class Pairs(Wrapped):
    """A map-style dataset from another project that returns the same samples."""

    def __getitem__(self, number):
        return self.dataset[number]


@pytest.mark.parametrize("threads", [0, 2])
def test_batches_of_any_map_style_dataset_match_those_of_data_loader(release, threads):
    dataset = SDOMLlite(release, CHANNELS)
    windows = SDOMLliteSequences(dataset, past=2)
    for source in (
        Subset(dataset, [5, 3, 60, 3]),
        ConcatDataset([dataset, Subset(dataset, [1, 0])]),
        ConcatDataset([windows, windows]),
        Subset(windows, [4, 2]),
        Wrapped(dataset),
        ConcatDataset([Pairs(dataset), Subset(Pairs(dataset), [1, 0])]),
        ConcatDataset([dataset, Pairs(dataset)]),
        ConcatDataset([SDOMLlite(release, CHANNELS, transform=lambda x: (x, 2 * x))] * 2),
    ):
        sampler = BatchSampler(source, 5, seed=2)
        plain = DataLoader(source, batch_sampler=sampler)
        ours = BatchLoader(source, 5, shuffle=True, seed=2, threads=threads)
        for one, other in zip(ours, plain, strict=True):
            expected = _comparable(other)
            found = _comparable(one)
            assert found.keys() == expected.keys()
            for key, value in found.items():
                same = torch.equal if torch.is_tensor(value) else str.__eq__
                assert same(value, expected[key])


def _comparable(batch):
    """Return a batch's items by key or position: tensors, and other values as strings."""
    values = batch.items() if isinstance(batch, dict) else enumerate(batch)
    return {str(key): value if torch.is_tensor(value) else str(value) for key, value in values}


def times_of(batches):
    return [tuple(times) for _, times in batches]


def test_mixture_keeps_its_proportions_across_ranks_and_resumes(release):
    dataset = SDOMLlite(release, CHANNELS)
    parts = dataset.split(
        {"a": [("2022-11-01", "2022-11-02")], "b": [("2022-11-02", "2022-11-04")]}
    )
    mixed = ConcatDataset(list(parts.values()))

    def make(rank, world):
        return BatchLoader(
            mixed,
            8,
            shuffle=True,
            weights=[0.75, 0.25],
            length=800,
            rank=rank,
            world_size=world,
        )

    ranks = [make(rank, 2) for rank in range(2)]
    epochs = [[times_of(rank) for rank in ranks] for _ in range(2)]
    for batches in epochs:
        assert [len(each) for each in batches] == [50, 50]
        days = Counter(time[:10] for each in batches for batch in each for time in batch)
        assert days["2022-11-01"] / 800 == pytest.approx(0.75, abs=0.05)
    assert epochs[0] != epochs[1]
    alone = make(0, 1)
    iterator = iter(alone)
    before = [next(iterator)[1] for _ in range(30)]
    rest = [make(rank, 3) for rank in range(3)]
    for each in rest:
        each.load_state_dict(alone.state_dict())
    seen = Counter(time for batch in before for time in batch)
    seen += Counter(time for each in rest for batch in times_of(each) for time in batch)
    assert seen == Counter(time for each in epochs[0] for batch in each for time in batch)


def test_sampling_frequencies_match_the_weights():
    count = 12_000
    weights = [0, 1, 2, 0, 3, 0]
    sampler = BatchSampler(range(6), 100, weights=weights, length=count)
    found = Counter(index for batch in sampler for index in batch)
    assert sum(found.values()) == count
    assert [found[index] / count for index in range(6)] == pytest.approx(
        [weight / 6 for weight in weights], abs=0.02
    )
    orders = [list(sampler) for _ in range(3)]
    assert all(one != other for one, other in pairwise(orders))


@pytest.mark.parametrize("weights", [[1, 2], [1, 1, -1], [0, 0, 0], [1, 1, float("nan")]])
def test_invalid_weights_are_rejected(weights):
    with pytest.raises(DatasetError, match="weights must be 3 numbers, one per sample"):
        BatchSampler(range(3), 1, weights=weights)


def test_state_with_different_weights_is_rejected():
    plain, weighted = BatchSampler(range(3), 1), BatchSampler(range(3), 1, weights=[1, 2, 3])
    with pytest.raises(DatasetError, match=r"this state has weights='\w+', but the loader has"):
        plain.load_state_dict(weighted.state_dict())
    other = BatchSampler(range(3), 1, weights=[1, 2, 4])
    with pytest.raises(DatasetError, match="this state has weights="):
        other.load_state_dict(weighted.state_dict())


def test_concatenated_datasets_with_different_items_are_rejected(release):
    plain = SDOMLlite(release, CHANNELS)
    both = ConcatDataset([plain, SDOMLlite(release, CHANNELS, metadata=True)])
    with pytest.raises(DatasetError, match="the same metadata and targets for all datasets"):
        list(BatchLoader(both, len(both)))
