"""Targets for single images instead of sequences."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, SDOMLlite, SDOMLliteSequences
from sdoml_core.loader.targets import Events, Standardize, TimeSeries

CHANNELS = ("AIA_0171", "HMI_M")
FIRST = np.datetime64("2022-11-01T00:00:00")
EVERY = FIRST + np.arange(-24 * 60, 96 * 60, 5) * np.timedelta64(60, "s")
HOUR = timedelta(hours=1)


def clock(**options):
    """Return a series in which each value is its own time, in minutes since the first day."""
    return TimeSeries(EVERY, (EVERY - FIRST) / np.timedelta64(60, "s"), **options)


def minutes(times):
    return [(np.datetime64(time) - FIRST) / np.timedelta64(60, "s") for time in times]


@pytest.fixture(scope="module")
def dataset(release):
    ahead = clock(reduce="max", window=(timedelta(0), 2 * HOUR), per="sample")
    return SDOMLlite(release, CHANNELS, targets={"now": clock(), "ahead": ahead})


def test_targets_are_returned_with_samples_and_batches(release, dataset):
    image, time, targets = dataset[3]
    assert image.shape == (2, 32, 32)
    assert targets["targets"]["now"].item() == minutes([time])[0]
    assert targets["targets"]["ahead"].item() == minutes([time])[0] + 120
    assert targets["target_mask"]["ahead"].shape == ()
    ours = next(iter(BatchLoader(dataset, 4, threads=0)))
    plain = next(iter(DataLoader(dataset, batch_size=4)))
    for batch in (ours, plain):
        assert batch[2]["targets"]["now"].tolist() == minutes(batch[1])
        assert batch[2]["targets"]["now"].dtype == torch.float32
        assert batch[2]["target_mask"]["now"].all()
    both = SDOMLlite(release, CHANNELS, targets={"now": clock()}, metadata=True)[0]
    assert [list(item) for item in both[2:]] == [list(CHANNELS), ["targets", "target_mask"]]


def test_split_part_uses_only_its_own_targets(release, dataset):
    middle = "2022-11-02T03:00"
    parts = dataset.split({"train": [("2022-11-01", middle)], "test": [(middle, "2022-11-04")]})
    last = dataset.find("2022-11-02T02:45:00")
    assert last is not None
    ends = [
        batch[2]["targets"]["ahead"].max().item()
        for batch in BatchLoader(parts["train"], 8, threads=0)
    ]
    assert max(ends) < minutes([middle])[0] <= dataset[last][2]["targets"]["ahead"].item()
    assert len(parts["train"]) + len(parts["test"]) == len(dataset) - 8


def test_samples_without_a_target_are_left_out_or_masked(release):
    short = TimeSeries(EVERY[FIRST + np.timedelta64(3, "h") > EVERY], np.arange(324.0))
    everything = SDOMLlite(release, CHANNELS)
    part = SDOMLlite(release, CHANNELS, targets={"x": short})
    assert 0 < len(part) < len(everything)
    with pytest.raises(DatasetError, match="a target has no value; the nearest are"):
        part[everything.times[-1]]
    short.gaps = "mask"
    masked = SDOMLlite(release, CHANNELS, targets={"x": short})
    assert len(masked) == len(everything)
    assert masked[-1][2]["targets"]["x"].isnan()
    with pytest.raises(DatasetError, match=r"none of the \d+ samples has all targets"):
        SDOMLlite(release, CHANNELS, targets={"x": TimeSeries(["2010-05-01"], [1.0])})


def test_sequences_have_the_targets_of_their_dataset(dataset):
    item = SDOMLliteSequences(dataset, past=2)[0]
    assert item["targets"]["now"].tolist() == minutes(item["times"])


def test_error_explains_misplaced_arguments(release):
    series = TimeSeries([FIRST], [1.0], transform=Standardize())
    for targets in (series, [series]):
        with pytest.raises(DatasetError, match=r"targets must be a dictionary such as"):
            SDOMLlite(release, CHANNELS, targets=targets)
    dataset = SDOMLlite(release, CHANNELS)
    with pytest.raises(DatasetError, match=r"at\(\) needs a list of times, not '2022-11-01'"):
        dataset.at("2022-11-01")
    with pytest.raises(DatasetError, match=r"needs an SDOMLlite, .* not Subset"):
        series.fitted(dataset.at(["2022-11-01"]))


def test_error_mentions_windows_that_reach_beyond_the_range(release):
    flares = Events(
        [], [], window=(timedelta(0), timedelta(days=1)), covers=("2022-10-01", "2022-12-01")
    )
    with pytest.raises(DatasetError, match="a window reaches beyond the range"):
        SDOMLlite(release, CHANNELS, date_end="2022-11-02", targets={"flare": flares})


def test_transforms_are_fitted_to_sequences_and_invert_predictions_with_gradients(release):
    days = np.datetime64("2022-11-01") + np.arange(3) * np.timedelta64(1, "D")
    series = TimeSeries(days, [1.0, 3.0, 100.0], transform=Standardize())
    train = SDOMLlite(release, CHANNELS, date_end="2022-11-03")
    fitted = series.fitted(SDOMLliteSequences(train, past=2))
    assert fitted.transform == Standardize(2.0, 1.0)
    prediction = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    assert fitted.inverse(prediction).tolist() == [3.0, 3.0]
