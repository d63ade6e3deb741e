"""Joined folders with different channels match one folder with all channels."""

import shutil
from datetime import timedelta

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.loader import BatchLoader, SDOMLlite, SDOMLliteSequences, shard_dataset
from sdoml_core.loader.targets import TimeSeries
from tests.sdoml_core.loader.test_flags import flagged
from tests.support.range_server import serving_ranges
from tests.support.synthetic_shards import FIRST, write_day, write_release

AIA, HMI = ["AIA_0171", "AIA_0193", "AIA_0211"], ["HMI_M"]
CHANNELS = ["HMI_M", "AIA_0193", "AIA_0211"]
STEP = timedelta(minutes=15)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three days of AIA and two of HMI, in separate folders with their own constants and in one."""
    root = tmp_path_factory.mktemp("channels")
    write_release(root / "aia", 3, channels=AIA, hours=5, version="aaaa", facts_of=flagged)
    for number in range(3):
        day = FIRST + number * DAY
        options = {"hours": 5, "facts_of": flagged}
        if number < 2:
            write_day(root / "hmi/2022", day, channels=HMI, version="bbbb", **options)
        whole = AIA if number == 2 else [*AIA, *HMI]
        write_day(root / "whole/2022", day, channels=whole, version="cccc", **options)
    return root


def same(one, other):
    """Check that samples, items or batches are equal and their pixels bit-identical."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.numpy().tobytes() == other.numpy().tobytes()
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            same(value, other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def both(root, channels=CHANNELS, **options):
    folders = [root / "hmi", root / "aia"]
    return SDOMLlite(folders, channels, **options), SDOMLlite(root / "whole", channels, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"metadata": True, "verify": True},
        {"units": "physical"},
        {"exclude_flags": ["partial_disk"]},
        {"date_exclusions": [("2022-11-01T01:00", "2022-11-01T02:00")]},
    ],
)
def test_samples_match_those_of_one_folder(root, options):
    joined, whole = both(root, **options)
    assert len(joined) == len(whole) >= 28
    same(list(joined), list(whole))
    times = ["2022-11-02T04:45:00", "2022-11-01T00:00:00"]
    same(list(joined.at(times)), list(whole.at(times)))
    assert str(joined.coverage()) == str(whole.coverage())
    assert joined.constants == whole.constants
    assert torch.equal(joined.mask(0), whole.mask(0))


def test_description_names_both_versions_and_counts_shards(root):
    text = repr(both(root)[0])
    assert "32 of 212 slots" in text
    assert "in 4 shards" in text
    assert "constants version bbbb, aaaa" in text
    one = SDOMLlite([root / "hmi", root / "aia"], HMI)
    assert "in 2 shards" in repr(one)


@pytest.mark.parametrize("gaps", ["drop", "mask", "hold"])
def test_sequences_with_targets_match_those_of_one_folder(root, gaps):
    times = np.datetime64(FIRST) + np.arange(3 * 1440) * np.timedelta64(1, "m")
    flux = TimeSeries(times, np.arange(len(times)), reduce="mean")
    options = {"max_age": DAY} if gaps == "hold" else {}
    joined, whole = (
        SDOMLliteSequences(
            dataset, past=2, horizon=STEP, stride=STEP, gaps=gaps, targets={"flux": flux}, **options
        )
        for dataset in both(root, metadata=True)
    )
    assert len(joined) == len(whole) > 20
    same(list(joined), list(whole))
    if gaps == "mask":  # only the AIA folder has the third day
        last = joined[-1]
        assert last["time"].startswith("2022-11-03")
        assert not last["mask"][:, 0].any()
        assert last["mask"][:, 1:].all()


def test_ranks_workers_and_streams_match_those_of_one_folder(root):
    joined, whole = both(root, units={"HMI_M": "gauss"})
    for rank in range(2):
        options = {"shuffle": True, "seed": 3, "rank": rank, "world_size": 2}
        same(list(BatchLoader(joined, 4, **options)), list(BatchLoader(whole, 4, **options)))
    spawned = DataLoader(joined, 8, num_workers=1, multiprocessing_context="spawn", collate_fn=list)
    same([sample for batch in spawned for sample in batch], list(whole))
    part = SDOMLliteSequences(joined.within([("2022-11-01", "2022-11-02")]), past=2)
    same(next(iter(BatchLoader(Subset(part, [3, 0]), 2)))["past"][1], part[0]["past"])
    stream = shard_dataset([root / "aia", root / "hmi"], CHANNELS, batch_size=4, seed=1)
    assert sorted(time for _, times in stream for time in times) == [time for _, time in whole]


@pytest.mark.parametrize(
    "options", [{"dtype": "float16"}, {"encoding": "compact"}, {"index": False}]
)
def test_shards_with_other_encodings_or_without_an_index_are_joined(tmp_path, options):
    for name, channels in (("aia", AIA), ("hmi", HMI), ("whole", [*AIA, *HMI])):
        write_day(tmp_path / name, FIRST, channels=channels, hours=1, version=name, **options)
    joined, whole = both(tmp_path)
    same(list(joined), list(whole))


def test_folders_can_add_both_times_and_channels(root, tmp_path):
    first = write_release(
        tmp_path / "first", 1, channels=AIA, hours=5, version="aaaa", facts_of=flagged
    )
    later = tmp_path / "later"
    for number in (1, 2):
        day = FIRST + number * DAY
        write_day(later, day, channels=AIA, hours=5, version="aaaa", facts_of=flagged)
    folders = [later, root / "hmi", first]
    same(list(SDOMLlite(folders, CHANNELS)), list(SDOMLlite(root / "whole", CHANNELS)))


def test_local_and_remote_folders_are_joined(root, tmp_path):
    with serving_ranges(root / "aia") as server:
        joined = SDOMLlite([server.url, root / "hmi"], CHANNELS, cache_dir=tmp_path)
        same(list(joined), list(SDOMLlite(root / "whole", CHANNELS)))
        sent = server.sent.total()
        same(list(joined), list(SDOMLlite(root / "whole", CHANNELS)))
        assert server.sent.total() == sent  # the second dataset reads from the cache


def test_samples_of_missing_shards_keep_the_channels_of_the_other_folder(root, tmp_path):
    shutil.copytree(root / "aia", tmp_path / "aia")
    (tmp_path / "aia/sdoml-lite-001.tar").unlink()
    folders = [tmp_path / "aia", root / "hmi"]
    with pytest.raises(DatasetError, match="1 of 3 shards are missing"):
        SDOMLlite(folders, CHANNELS)
    dataset = SDOMLlite(folders, CHANNELS, missing_shards="skip")
    assert {time[:10] for _, time in dataset} == {"2022-11-02"}
    magnetograms = SDOMLlite(folders, HMI, missing_shards="skip")
    same(list(magnetograms), list(SDOMLlite(root / "whole", HMI)))


def test_conflicting_folders_are_rejected(root, tmp_path):
    day = {"day": FIRST, "hours": 1}
    write_day(tmp_path / "twice", channels=["AIA_0211", "HMI_M"], version="aaaa", **day)
    with pytest.raises(
        DatasetError, match=r"AIA_0211 at 2022-11-01T00:00:00 is in both .* in .*aia and .*twice"
    ):
        SDOMLlite([root / "aia", tmp_path / "twice"], CHANNELS)
    write_day(tmp_path / "other", channels=["AIA_0211"], version="dddd", **day)
    with pytest.raises(NormalizationError, match=r"AIA_0211 .* aaaa in .*aia, dddd in .*other"):
        SDOMLlite([root / "aia", tmp_path / "other"], CHANNELS)
    write_day(tmp_path / "half", channels=HMI, dtype="float16", **day)
    with pytest.raises(DatasetError, match=r"dtype: float32 in .*aia, float16 in .*half"):
        SDOMLlite([root / "aia", tmp_path / "half"], CHANNELS)
    write_day(tmp_path / "small", channels=HMI, side=16, **day)
    with pytest.raises(DatasetError, match=r"resolution: 32 in .*aia, 16 in .*small"):
        SDOMLlite([root / "aia", tmp_path / "small"], CHANNELS)
    write_day(tmp_path / "fits", channels=HMI, encoding="compact", **day)
    with pytest.raises(DatasetError, match=r"encoding: npy in .*aia, compact in .*fits"):
        SDOMLlite([root / "aia", tmp_path / "fits"], CHANNELS)
