"""Targets of windows of frames: aligned with the frames, and never from held-out times."""

from datetime import timedelta

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, SDOMLlite, SDOMLliteSequences
from sdoml_core.loader.targets import Log10, Standardize, TimeSeries

CHANNELS = ("AIA_0171", "HMI_M")
FIRST = np.datetime64("2022-11-01T00:00:00")
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
EVERY = FIRST + np.arange(-24 * 60, 96 * 60, 5) * np.timedelta64(60, "s")


def clock(**options) -> TimeSeries:
    """Return a series in which each value is its own time, in minutes since the first day."""
    return TimeSeries(EVERY, (EVERY - FIRST) / np.timedelta64(60, "s"), **options)


def minute(time: str) -> float:
    return float((np.datetime64(time) - FIRST) / np.timedelta64(60, "s"))


@pytest.fixture(scope="module")
def dataset(release):
    return SDOMLlite(release, CHANNELS)


def test_targets_are_aligned_with_the_frames(dataset):
    windows = SDOMLliteSequences(
        dataset,
        past=3,
        horizon=QUARTER,
        future=2,
        stride=QUARTER,
        targets={
            "clock": clock(),
            "before": clock(reduce="max"),
            "label": clock(reduce="max", window=(timedelta(0), 2 * HOUR), per="sample"),
        },
    )
    item = windows[5]
    times = [minute(time) for time in item["times"]]
    assert item["targets"]["clock"].tolist() == times
    assert item["targets"]["before"].tolist() == times
    assert item["targets"]["label"].item() == minute(item["time"]) + 120
    assert item["target_mask"]["clock"].all()
    assert item["target_mask"]["label"].shape == ()
    assert item["targets"]["clock"].dtype == torch.float32


def test_all_batch_methods_return_the_same_targets(dataset):
    windows = SDOMLliteSequences(
        dataset, past=2, targets={"clock": clock(), "label": clock(per="sample")}
    )
    ours = next(iter(BatchLoader(windows, 4, threads=0)))
    plain = next(iter(DataLoader(windows, batch_size=4)))
    for key in ("targets", "target_mask"):
        for name in ("clock", "label"):
            assert torch.equal(ours[key][name], plain[key][name])
    assert ours["targets"]["clock"].shape == (4, 2)
    assert ours["targets"]["label"].shape == (4,)


def test_windows_without_a_target_are_left_out_or_masked(dataset):
    short = TimeSeries(EVERY[FIRST + np.timedelta64(3, "h") > EVERY], np.arange(36 + 288.0))
    everything = SDOMLliteSequences(dataset, past=2)
    some = SDOMLliteSequences(dataset, past=2, targets={"short": short})
    assert 0 < len(some) < len(everything)
    assert some.times.max() < FIRST + np.timedelta64(4, "h")
    short.gaps = "mask"
    masked = SDOMLliteSequences(dataset, past=2, targets={"short": short})
    assert len(masked) == len(everything)
    last = masked[len(masked) - 1]
    assert not last["target_mask"]["short"].any()
    assert last["targets"]["short"].isnan().all()


def test_series_outside_the_range_is_an_error(dataset):
    old = TimeSeries(["2010-05-01", "2010-05-02"], [1.0, 2.0])
    with pytest.raises(DatasetError, match=r"none of the \d+ sequences has all targets"):
        SDOMLliteSequences(dataset, past=2, targets={"old": old})
    with pytest.raises(DatasetError, match="target 'x' must be a TimeSeries or Events"):
        SDOMLliteSequences(dataset, past=2, targets={"x": [1, 2]})


def test_transforms_are_fitted_only_to_the_training_part(dataset):
    parts = dataset.split(
        {"train": [("2022-11-01", "2022-11-02")], "val": [("2022-11-02", "2022-11-04")]}
    )
    values = np.where(FIRST + np.timedelta64(1, "D") > EVERY, 10.0, 1e6) ** np.tile(
        [1, 2], len(EVERY) // 2
    )
    series = TimeSeries(EVERY, values, transform=Log10(then=Standardize())).fitted(parts["train"])
    windows = SDOMLliteSequences(parts["train"], past=4, targets={"flux": series})
    got = torch.cat([item["targets"]["flux"] for item in windows]).numpy()
    assert np.abs(got).max() == pytest.approx(1.0), "10 and 100 must be one deviation from the mean"
    assert series.inverse(got[:4]) == pytest.approx([10, 100, 10, 100])


minutes = st.integers(0, 72 * 4).map(lambda quarter: timedelta(minutes=15 * quarter))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    past=st.integers(1, 6),
    future=st.integers(0, 4),
    gaps=st.sampled_from(["drop", "hold", "mask"]),
    exclusions=st.lists(st.tuples(minutes, st.integers(1, 40)), max_size=4),
    split=st.integers(1, 71),
    shift=st.integers(-12, 12),
    length=st.integers(1, 16),
    policy=st.sampled_from(["drop", "mask", "hold"]),
)
@pytest.mark.slow
def test_windows_contain_no_held_out_times(
    dataset, *, past, future, gaps, exclusions, split, shift, length, policy
):
    """No training window uses data from excluded times or from the other part."""
    start = FIRST.item()
    held_out = [(start + a, start + a + n * QUARTER) for a, n in exclusions]
    middle = start + split * HOUR
    age = {"max_age": HOUR} if policy == "hold" else {}
    window = (shift * QUARTER, (shift + length) * QUARTER)
    targets = {
        "nearest": clock(tolerance=HOUR, gaps=policy, **age),
        "last": clock(reduce="last", tolerance=2 * HOUR, gaps=policy, **age),
        "first_used": clock(reduce="min", window=window, gaps=policy, **age),
        "last_used": clock(reduce="max", window=window, gaps=policy, **age),
    }
    try:
        train = SDOMLlite(dataset.data_dir, CHANNELS, date_end=middle, date_exclusions=held_out)
        windows = SDOMLliteSequences(
            train,
            past=past,
            horizon=QUARTER if future else None,
            future=future or 1,
            gaps=gaps,
            targets=targets,
            **({"max_age": HOUR} if gaps == "hold" else {}),
        )
    except DatasetError:
        return  # no window is left

    def forbidden(time: float) -> bool:
        at = start + timedelta(minutes=time)
        return at >= middle or any(a <= at < b for a, b in held_out)

    batch = next(iter(BatchLoader(windows, len(windows), threads=0)))
    for name, values in batch["targets"].items():
        used = values[batch["target_mask"][name]]
        assert not any(map(forbidden, used.tolist())), name
    for number in range(len(windows)):
        item = windows[number]
        for frame, time in enumerate(item["times"]):
            at = minute(time)
            if "mask" in item and not item["mask"][frame].any():
                continue
            ages = item["age"][frame].tolist() if "age" in item else [0.0]
            assert not any(forbidden(at - age) for age in ages)
