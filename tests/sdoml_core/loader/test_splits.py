"""No sample is in two parts of a split, and only samples within the guard gap are left out."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdoml_core.errors import DatasetError
from sdoml_core.loader import SDOMLlite
from sdoml_core.loader.splits import apart, month_ranges
from tests.support.synthetic_shards import write_day

START = np.datetime64("2022-01-01", "s")
MINUTE = np.timedelta64(60, "s")


@st.composite
def parts(draw):
    """Draw disjoint ranges and assign them to named parts."""
    cuts = sorted(draw(st.sets(st.integers(0, 400), min_size=2, max_size=12)))
    ranges = {name: [] for name in ("train", "val", "test")}
    for start, end in pairwise(cuts):
        name = draw(st.sampled_from(["train", "val", "test", None]))
        if name:
            ranges[name].append((START + start * MINUTE, START + end * MINUTE))
    return ranges


def samples(ranges):
    return [int((t - START) / MINUTE) for a, b in ranges for t in np.arange(a, b, MINUTE)]


@given(parts(), st.integers(0, 50))
def test_parts_are_separated_by_exactly_the_gap(ranges, gap):
    kept = {
        name: samples(listed)
        for name, listed in apart(ranges, guard=timedelta(minutes=gap), step=MINUTE).items()
    }
    before = {name: samples(listed) for name, listed in ranges.items()}
    names = list(ranges)
    for number, name in enumerate(names):
        assert len(set(kept[name])) == len(kept[name])
        assert set(kept[name]) <= set(before[name])
        for later in names[number + 1 :]:
            near = [abs(a - b) for a in kept[name] for b in kept[later]]
            assert not near or min(near) >= max(gap, 1)
        others = [time for later in names[number + 1 :] for time in before[later]]
        for time in set(before[name]) - set(kept[name]):
            assert min(abs(time - other) for other in others) < gap


def test_overlaps_and_bad_ranges_are_rejected(release):
    dataset = SDOMLlite(release)
    day, next_day, last = "2022-11-01", "2022-11-02", "2022-11-03"
    with pytest.raises(DatasetError, match=r"train .* and test .* overlap"):
        dataset.split({"train": [(day, last)], "test": [(next_day, last)]})
    with pytest.raises(DatasetError, match="empty range in train"):
        dataset.split({"train": [(last, day)]})
    with pytest.raises(DatasetError, match=r"no samples in the given ranges \(2030-01-01"):
        dataset.split({"train": [(day, last)], "test": [("2030-01-01", "2030-01-02")]})
    with pytest.raises(DatasetError, match=r"guard=86400 .* a timedelta"):
        dataset.split({"train": [(day, last)]}, guard=86400)
    with pytest.raises(DatasetError, match="a timedelta"):
        dataset.split({"train": [(day, last)]}, guard=np.timedelta64(1, "M"))
    with pytest.raises(DatasetError, match="must not be negative"):
        dataset.split({"train": [(day, last)]}, guard=timedelta(-1))


@pytest.mark.parametrize(
    ("ranges", "culprit"),
    [
        (("2022-11-01", "2022-11-02"), "'2022-11-01'"),
        ((date(2022, 11, 1), date(2022, 11, 2)), "datetime.date(2022, 11, 1)"),
        (("ab", "cd"), "'ab'"),
        ([("2022-11-01",)], "('2022-11-01',)"),
        ([("2022-11", "2022-12", "2023-01")], "('2022-11', '2022-12', '2023-01')"),
        (np.array(["2022-11-01", "2022-11-02"], "M8[s]"), "np.datetime64('2022-11-01T00:00:00')"),
        ("2022-11-01", "'2'"),
        (date(2022, 11, 1), "datetime.date(2022, 11, 1)"),
        (None, "None"),
    ],
)
def test_error_for_malformed_ranges_shows_an_example(release, ranges, culprit):
    dataset = SDOMLlite(release, ["HMI_M"])
    right = "is not a range; pass a list of pairs such as [('2022-11-01', '2022-12-01')]"
    for name, ask in {
        "train": lambda: dataset.split({"train": ranges}),
        "time": lambda: dataset.within(ranges),
    }.items():
        with pytest.raises(DatasetError) as caught:
            ask()
        assert str(caught.value) == f"{name}: {culprit} {right}"
    if ranges is not None:
        with pytest.raises(DatasetError, match=r"date_exclusions: .* a list of pairs"):
            SDOMLlite(release, date_exclusions=ranges)


def test_split_is_a_dataset_and_prints_as_a_table(release):
    splits = SDOMLlite(release).split(
        {"train": [("2022-11-01", "2022-11-03")], "test": [("2022-11-03", "2022-11-04")]},
        guard=timedelta(hours=18, minutes=45),
    )
    assert set(splits) == {"train", "test"}
    assert len(splits) == 2
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (38, 20)
    assert test.times.min() - train.times.max() == np.timedelta64(18 * 60 + 45, "m")
    assert train[-1][1] == str(train.times[-1])
    lines = str(splits).splitlines()
    assert lines[0].split() == ["split", "first", "last", "ranges", "samples", "share"]
    assert lines[1].split()[0] == "train"
    assert "65.5%" in lines[1]
    assert lines[-1] == "guard gap 18:45:00"
    with pytest.raises(KeyError, match="choose from train, test"):
        splits["val"]
    with pytest.raises(DatasetError, match="the dataset runs from"):
        train["2022-11-03T00:00:00"]


def test_splits_can_be_defined_by_month(tmp_path):
    for month in (10, 11, 12):
        for day in (1, 2):
            write_day(tmp_path, np.datetime64(f"2022-{month}-0{day}").item(), hours=1)
    dataset = SDOMLlite(tmp_path, ["HMI_M"])
    splits = dataset.split_by_months({"train": (10, 12), "test": [11]}, guard=timedelta(hours=20))
    assert {str(t)[:7] for t in splits["train"].times} == {"2022-10", "2022-12"}
    assert {str(t)[:7] for t in splits["test"].times} == {"2022-11"}
    assert len(splits["test"]) == 8
    assert len(splits["train"]) == 12  # December 1 is in the gap


def test_adjacent_months_form_one_range():
    times = np.array(["2021-11-15", "2023-02-10"], "datetime64[s]")
    ranges = month_ranges(times, {"train": (12, 1, 2), "test": (11,)})
    assert [tuple(map(str, pair)) for pair in ranges["train"]] == [
        ("2021-12-01T00:00:00", "2022-03-01T00:00:00"),
        ("2022-12-01T00:00:00", "2023-03-01T00:00:00"),
    ]
    with pytest.raises(DatasetError, match="13 is not a month"):
        month_ranges(times, {"train": [13]})
    with pytest.raises(DatasetError, match="both train and test"):
        month_ranges(times, {"train": [1], "test": [1]})
