"""Sequences: each frame has the right time, and gaps are handled according to the policy."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, SDOMLlite, SDOMLliteSequences
from tests.support.synthetic_shards import SIDE, at, frame
from tests.support.synthetic_shards import missing as missing_in_day

CHANNELS = ("AIA_0211", "AIA_1700", "HMI_M")
QUARTER = timedelta(minutes=15)


def missing(slot, channel):
    """Return whether a frame is missing. Each day has data for only six hours."""
    return slot.hour >= 6 or missing_in_day(slot, channel)


@pytest.fixture(scope="module")
def dataset(release):
    return SDOMLlite(release, CHANNELS)


def check(item, *, past, ahead=()):
    """Check that all available frames of an item match their times."""
    frames = torch.cat([item["past"], item["future"]]) if "future" in item else item["past"]
    assert frames.shape == (past + len(ahead), 3, SIDE, SIDE)
    assert item["time"] == item["times"][past - 1]
    for number, (pixels, time) in enumerate(zip(frames, item["times"], strict=True)):
        for c, channel in enumerate(CHANNELS):
            slot = at(time)
            if "age" in item:
                slot -= timedelta(minutes=float(item["age"][number, c]))
            if "mask" in item:
                assert bool(item["mask"][number, c]) != missing(slot, channel)
            expected = 0 if missing(slot, channel) else frame(slot, channel)
            if missing(slot, channel):
                assert "mask" in item
            np.testing.assert_array_equal(pixels[c].numpy(), np.zeros((SIDE, SIDE)) + expected)


def test_frames_match_their_times(dataset):
    sequences = SDOMLliteSequences(
        dataset,
        past=3,
        horizon=timedelta(minutes=30),
        future=2,
        stride=timedelta(hours=1),
        gaps="mask",
    )
    times = [np.datetime64(time) for time in sequences[0]["times"]]
    assert ((times - times[2]) / np.timedelta64(1, "m")).tolist() == [-120, -60, 0, 30, 90]
    for item in sequences:
        check(item, past=3, ahead=(30, 90))


def test_drop_keeps_only_sequences_without_gaps(release):
    dataset = SDOMLlite(release, ["AIA_0211"])
    sequences = SDOMLliteSequences(dataset, past=2, horizon=QUARTER)
    # A day lasts from 00:00 to 06:00 without 03:00 to 04:00, which leaves runs of 12 and 8 frames.
    assert len(sequences) == 3 * (12 - 2 + 8 - 2)
    for item in sequences:
        assert not any(missing(at(time), "AIA_0211") for time in item["times"])


def test_masked_frames_are_zero(dataset):
    sequences = SDOMLliteSequences(dataset, past=3, gaps="mask")
    gaps = 0
    for item in sequences:
        check(item, past=3)
        gaps += int((~item["mask"]).sum())
    assert gaps > 0
    assert len(sequences) > len(SDOMLliteSequences(dataset, past=3, gaps="hold", max_age=QUARTER))


def test_held_frames_have_ages_within_the_limit(dataset):
    short = SDOMLliteSequences(dataset, past=3, gaps="hold", max_age=QUARTER)
    long = SDOMLliteSequences(dataset, past=3, gaps="hold", max_age=timedelta(hours=2))
    assert len(long) > len(short)
    for sequences, limit in ((short, 15), (long, 120)):
        ages = set()
        for item in sequences:
            check(item, past=3)
            ages |= set(item["age"].unique().tolist())
        assert 0 in ages
        assert 0 < max(ages) <= limit


def test_future_frames_are_never_held(release):
    dataset = SDOMLlite(release, ["AIA_0211"])
    sequences = SDOMLliteSequences(
        dataset, past=1, horizon=QUARTER, gaps="hold", max_age=timedelta(hours=3)
    )
    for item in sequences:
        assert not missing(at(item["times"][-1]), "AIA_0211")
        assert item["age"][-1] == 0


def test_raise_policy_reports_the_gap_count_and_the_first_gap(dataset, release):
    with pytest.raises(DatasetError, match=r"\d+ of \d+ sequences lack frames, the first at 2022"):
        SDOMLliteSequences(dataset, past=2, gaps="raise")
    whole = SDOMLlite(release, ["HMI_M"], date_end="2022-11-02")
    assert len(SDOMLliteSequences(whole, past=2, gaps="raise")) == 23


@pytest.mark.parametrize("gaps", ["drop", "mask", "hold"])
def test_sequences_stay_within_ranges_and_outside_exclusions(release, gaps):
    excluded = ("2022-11-02T01:00", "2022-11-02T02:00")
    # 1700 Å lacks the first frame of every hour, including that of the second range.
    channels = ["HMI_M", "AIA_1700"][: 1 if gaps == "drop" else 2]
    whole = SDOMLlite(release, channels, date_exclusions=[excluded])
    part = whole.within([("2022-11-01T04:00", "2022-11-02T05:00"), ("2022-11-03", "2022-11-04")])
    options = {"max_age": timedelta(days=2)} if gaps == "hold" else {}
    sequences = SDOMLliteSequences(part, past=3, horizon=QUARTER, gaps=gaps, **options)
    bounds = [tuple(map(np.datetime64, map(str, pair))) for pair in part.selection.ranges]
    for item in sequences:
        times = [np.datetime64(time) for time in item["times"]]
        ages = item.get("age", torch.zeros(4, len(channels))).tolist()
        real = item.get("mask", torch.ones(4, len(channels), dtype=torch.bool)).tolist()
        used = [
            time - np.timedelta64(int(age[channel] * 60), "s")
            for time, age, there in zip(times, ages, real, strict=True)
            for channel in range(len(channels))
            if there[channel]
        ]
        assert any(all(start <= time < end for time in used) for start, end in bounds)
        assert not any(
            np.datetime64(excluded[0]) <= time < np.datetime64(excluded[1]) for time in used
        )


def test_workers_return_the_same_sequences(dataset):
    sequences = SDOMLliteSequences(dataset, past=2, gaps="mask")
    alone = list(DataLoader(sequences, batch_size=16))
    workers = list(DataLoader(sequences, batch_size=16, num_workers=2))
    for one, other in zip(alone, workers, strict=True):
        assert torch.equal(one["past"], other["past"])
        assert torch.equal(one["mask"], other["mask"])
        assert one["time"] == other["time"]


@pytest.mark.parametrize("transform", [None, lambda item: item])
@pytest.mark.parametrize("make", [BatchLoader, DataLoader])
def test_batch_lists_times_by_sample_and_frame(dataset, make, transform):
    sequences = SDOMLliteSequences(dataset, past=2, gaps="mask", transform=transform)
    batch = next(iter(make(sequences, batch_size=5)))
    assert batch["times"] == [sequences[number]["times"] for number in range(5)]
    assert [len(times) for times in batch["times"]] == [2] * 5


def halved(tensor, time):
    """Return half the mean of the pixels and the minute, as a transform with a time parameter."""
    return torch.stack([tensor.mean() / 2, torch.tensor(float(time[14:16]))])


@pytest.mark.parametrize("make", [BatchLoader, DataLoader])
def test_dataset_transform_receives_frames_and_times(release, make):
    plain = SDOMLliteSequences(SDOMLlite(release, CHANNELS), past=2, horizon=QUARTER)
    source = SDOMLlite(release, CHANNELS, transform=halved)
    sequences = SDOMLliteSequences(source, past=2, horizon=QUARTER)
    batch = next(iter(make(sequences, batch_size=3)))
    assert batch["past"].shape == (3, 2, 2)
    for number in range(3):
        item = plain[number]
        frames = [*item["past"], *item["future"]]
        expected = [halved(frame, time) for frame, time in zip(frames, item["times"], strict=True)]
        found = torch.cat([batch["past"][number], batch["future"][number]])
        torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("make", [BatchLoader, DataLoader])
@pytest.mark.parametrize("gaps", ["mask", "hold"])
def test_sequences_have_the_metadata_of_their_frames(release, make, gaps):
    source = SDOMLlite(release, CHANNELS, metadata=True)
    options = {"max_age": QUARTER} if gaps == "hold" else {}
    sequences = SDOMLliteSequences(source, past=2, gaps=gaps, **options)
    batch = next(iter(make(sequences, batch_size=8)))
    assert len(batch["metadata"]) == 8
    for sample, (times, sequence) in enumerate(zip(batch["times"], batch["metadata"], strict=True)):
        for number, (time, facts) in enumerate(zip(times, sequence, strict=True)):
            assert list(facts) == list(CHANNELS)
            slot = at(time)
            for c, channel in enumerate(CHANNELS):
                if gaps == "mask" and missing(slot, channel):
                    assert facts[channel] is None
                    continue
                age = float(batch["age"][sample, number, c]) if gaps == "hold" else 0
                seen = slot - timedelta(minutes=age, seconds=7.25)
                assert at(facts[channel]["observed"]) == seen


def test_transform_is_applied_to_each_item(dataset):
    sequences = SDOMLliteSequences(dataset, past=2, transform=lambda item: item["past"].shape)
    assert sequences[0] == (2, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"past": 2, "gaps": "interpolate"}, "'interpolate'; use one of drop, mask, hold, raise"),
        ({"past": 2, "gaps": "hold"}, "max_age requires gaps='hold'"),
        ({"past": 2, "max_age": QUARTER}, "max_age requires gaps='hold'"),
        ({"past": 0}, "at least 1, not 0"),
        ({"past": 1, "horizon": QUARTER, "future": 0}, "at least 1"),
        ({"past": 1, "stride": timedelta(0)}, "must be positive"),
        ({"past": 1, "horizon": -QUARTER}, "must be positive"),
        ({"past": 1, "stride": timedelta(milliseconds=900)}, "must be positive"),
        ({"past": 1, "stride": 6}, "stride=6 .* a timedelta such as timedelta"),
        ({"past": 1, "stride": "1h"}, "stride='1h' .* a timedelta such as timedelta"),
        ({"past": 1, "stride": np.timedelta64("NaT")}, "stride=.*NaT.* a timedelta"),
        ({"past": 1, "horizon": 24}, "horizon=24 .* a timedelta such as timedelta"),
        ({"past": 1, "gaps": "hold", "max_age": 3600.0}, r"max_age=3600\.0 .* a timedelta"),
        ({"past": 4000}, "no sequence of 4000 frames"),
        ({"past": 2, "stride": timedelta(minutes=7)}, "no sequence of 2 frames"),
    ],
)
def test_invalid_arguments_are_rejected(dataset, options, message):
    with pytest.raises(DatasetError, match=message):
        SDOMLliteSequences(dataset, **options)


def test_stride_can_be_a_numpy_timedelta(dataset):
    stride = np.timedelta64(30, "m")
    times = SDOMLliteSequences(dataset, past=2, stride=stride, gaps="mask")[0]["times"]
    assert np.datetime64(times[1]) - np.datetime64(times[0]) == stride


def test_index_beyond_the_last_is_an_error(dataset):
    sequences = SDOMLliteSequences(dataset, past=2)
    with pytest.raises(IndexError):
        sequences[len(sequences)]


@pytest.mark.parametrize("gaps", ["mask", "raise"])
def test_sequences_do_not_extend_past_the_range(release, gaps):
    end = "2022-11-01T03:00"
    part = SDOMLlite(release, ["HMI_M"], date_end=end)
    sequences = SDOMLliteSequences(part, past=1, horizon=QUARTER, gaps=gaps)
    assert max(sequences[len(sequences) - 1]["times"]) == "2022-11-01T02:45:00"
