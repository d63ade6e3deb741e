"""`SDOMLlite` returns correct pixels for every kind of access and clear errors for missing data."""

import contextlib
import pickle
import shutil
import sys
from datetime import date, datetime, timedelta, timezone

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, default_collate

from sdoml_core.errors import (
    DamagedFileError,
    DatasetError,
    NormalizationError,
    SdomlError,
    StoreError,
)
from sdoml_core.frames.magnetogram import level_to_gauss
from sdoml_core.loader import SDOMLlite, SDOMLliteSequences, collate
from tests.support import synthetic_shards
from tests.support.synthetic_shards import (
    CONSTANT,
    FIRST,
    SIDE,
    VERSION,
    at,
    frame,
    write_day,
    write_release,
)

# These tests deliberately use more workers than some machines have cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")
ORIGINAL = ("HMI_M", "AIA_0131", "AIA_0171", "AIA_0193", "AIA_0211", "AIA_1600")


def check(dataset, index=0, *, dtype="float32"):
    tensor, time = dataset[index][:2]
    assert tensor.dtype == torch.float32
    assert tensor.shape == (len(dataset.channels), SIDE, SIDE)
    for pixels, channel in zip(tensor, dataset.channels, strict=True):
        expected = frame(at(time), channel).astype(dtype).astype("float32")
        np.testing.assert_array_equal(pixels.numpy(), expected)


def test_arguments_and_result_match_the_original(release):
    dataset = SDOMLlite(
        str(release),
        ["hmi_m", "aia_0193"],
        date_start="2022-11-01",
        date_end=datetime.fromisoformat("2022-11-02"),
        date_exclusions=[
            (datetime.fromisoformat("2022-11-01T02:00"), datetime.fromisoformat("2022-11-01T04:00"))
        ],
    )
    assert len(dataset) == 16
    sample = dataset[1]
    assert isinstance(sample, tuple)
    assert sample[1] == "2022-11-01T00:15:00"
    assert dataset.channels == ("HMI_M", "AIA_0193")
    check(dataset, 1)


def test_channels_have_the_requested_order(release):
    for channels in (ORIGINAL, ORIGINAL[::-1], ("AIA_1700",), ("AIA_1600", "AIA_0094", "HMI_M")):
        check(SDOMLlite(release, channels), 3)
    assert SDOMLlite(release).channels == ORIGINAL
    alone = SDOMLlite(release, "aia_0193")
    assert alone.channels == ("AIA_0193",)
    check(alone, 3)


@pytest.mark.parametrize(
    "key",
    [
        5,
        -55,
        np.int64(5),
        "2022-11-01T01:15:00",
        "2022-11-01 01:15",
        "2022-11-01T01:15:00Z",
        datetime.fromisoformat("2022-11-01T01:15"),
        datetime(2022, 11, 1, 2, 15, tzinfo=timezone(timedelta(hours=1))),
        np.datetime64("2022-11-01T01:15"),
    ],
)
def test_samples_are_found_by_number_and_by_time(release, key):
    dataset = SDOMLlite(release)
    assert len(dataset) == 60
    assert dataset[key][1] == "2022-11-01T01:15:00"
    check(dataset, key)


def test_iteration_stops_after_the_last_sample(release):
    dataset = SDOMLlite(release, date_end="2022-11-02")
    times = [time for _, time in dataset]
    assert times == [f"{day:%Y-%m-%dT%H:%M:%S}" for day in dataset.dates]
    assert len(times) == 20
    with pytest.raises(IndexError):
        dataset[20]
    with pytest.raises(IndexError):
        dataset[-21]


def test_incomplete_samples_are_left_out(release):
    assert len(SDOMLlite(release, ["AIA_0193"])) == 72
    assert len(SDOMLlite(release, ["AIA_0211"])) == 60
    assert len(SDOMLlite(release, ["AIA_0211", "AIA_1700"])) == 45


@pytest.mark.filterwarnings("ignore:the . shards in .* have no index")
@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("case", ["upper", "lower"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_kind_of_folder_has_the_same_samples(tmp_path, release, index, case, dtype):
    for number in range(2):
        write_day(
            tmp_path / "2022", FIRST + timedelta(days=number), case=case, index=index, dtype=dtype
        )
    dataset = SDOMLlite(tmp_path)
    assert len(dataset) == 40
    for number in (0, 17, -1):
        check(dataset, number, dtype=dtype)


def test_flat_folder_of_daily_shards_works(tmp_path):
    write_day(tmp_path, FIRST)
    check(SDOMLlite(tmp_path), 7)


def test_tensor_in_use_is_never_overwritten(release):
    dataset = SDOMLlite(release)
    for number in range(5):
        dataset[number]  # the memory of these samples is reused
    held = [dataset[number] for number in range(20)]
    view = dataset[20][0][2, 3:5]
    for _ in range(3):
        for number in range(30, 60):
            dataset[number]
    for tensor, time in held:
        np.testing.assert_array_equal(tensor[3].numpy(), frame(at(time), "AIA_0193"))
    expected = frame(at(str(dataset.times[20])), "AIA_0171")[3:5]
    np.testing.assert_array_equal(view.numpy(), expected)


def test_adjacent_samples_are_collated_without_a_copy(release):
    dataset = SDOMLlite(release)
    samples = dataset.__getitems__([3, 59, 0])
    batch, times = collate(samples)
    assert batch.data_ptr() == samples[0][0].data_ptr()
    assert default_collate(samples)[0].data_ptr() == batch.data_ptr()
    assert times == [str(dataset.times[number]) for number in (3, 59, 0)]
    for tensor, number in zip(batch, (3, 59, 0), strict=True):
        assert torch.equal(tensor, dataset[number][0])


@pytest.mark.parametrize("context", [None, "fork", "spawn"])
@pytest.mark.slow
def test_data_loader_works_with_and_without_workers(release, context):
    dataset = SDOMLlite(release)
    dataset[0]  # open files before the workers start
    loader = DataLoader(
        dataset,
        batch_size=8,
        num_workers=2 if context else 0,
        multiprocessing_context=context,
    )
    seen = []
    for tensors, times in loader:
        seen += times
        for tensor, time in zip(tensors, times, strict=True):
            np.testing.assert_array_equal(tensor[0].numpy(), frame(at(time), "HMI_M"))
    assert seen == [str(time) for time in dataset.times]


def test_subset_with_metadata_uses_the_default_collation(release):
    dataset = SDOMLlite(release, metadata=True)
    tensors, times, facts = next(iter(DataLoader(Subset(dataset, [5, 7]), batch_size=2)))
    assert torch.equal(tensors[1], dataset[7][0])
    assert [times[1], facts[1]] == list(dataset[7][1:])


def test_dataset_can_be_pickled(release):
    dataset = SDOMLlite(release, metadata=True)
    dataset[0]
    again = pickle.loads(pickle.dumps(dataset))
    assert again[5][1:] == dataset[5][1:]
    check(again, 5)


def test_dn_units_invert_the_normalization(release):
    dataset = SDOMLlite(release, units="dn")
    tensor, time = dataset[4]
    np.testing.assert_array_equal(tensor[0].numpy(), frame(at(time), "HMI_M"))
    y = frame(at(time), "AIA_0193").astype("float64")
    samples = (1024 / SIDE) ** 2
    np.testing.assert_allclose(tensor[3].numpy(), y**2 * CONSTANT / samples, rtol=1e-6)


def test_gauss_units_invert_the_rendering(release):
    dataset = SDOMLlite(release, units="gauss")
    tensor, time = dataset[4]
    np.testing.assert_array_equal(tensor[3].numpy(), frame(at(time), "AIA_0193"))
    exact = level_to_gauss(frame(at(time), "HMI_M"))
    np.testing.assert_allclose(tensor[0].numpy(), exact, atol=0.02)


def test_metadata_contains_the_recorded_values(release):
    _, time, facts = SDOMLlite(release, metadata=True)["2022-11-02T05:30:00"]
    assert time == "2022-11-02T05:30:00"
    assert list(facts) == list(ORIGINAL)
    known = {"observed", "exposure", "quality", "rsun_obs", "degradation"}
    assert {name: facts["AIA_0193"][name] for name in known} == {
        "observed": "2022-11-02T05:29:52.750",
        "exposure": 2.9,
        "quality": 0,
        "rsun_obs": 962.5,
        "degradation": 0.8,
    }
    assert facts["HMI_M"]["exposure"] is None


def test_metadata_of_a_sample_can_be_requested_separately(release):
    plain = SDOMLlite(release)
    with_facts = SDOMLlite(release, metadata=True)
    for number in (0, 30, -1):
        assert plain.facts(number) == with_facts[number][2]
    assert len(plain[0]) == 2


def test_find_returns_the_number_of_a_sample(release):
    dataset = SDOMLlite(release)
    for number in (0, 17, 59):
        assert dataset.find(str(dataset.times[number])) == number
        assert dataset.find(dataset.dates[number]) == number
    for nothing in ("2022-11-01T03:15", "2022-11-01T00:07", "2021-01-01", "2031-01-01"):
        assert dataset.find(nothing) is None
    with pytest.raises(DatasetError, match="not an ISO date"):
        dataset.find("noon")


@pytest.mark.parametrize("metadata", [False, True])
def test_samples_read_one_by_one_are_collated(release, metadata):
    dataset = SDOMLlite(release, metadata=metadata)
    batch, *others = collate([dataset[3], dataset[59]])
    together, *expected = collate(dataset.__getitems__([3, 59]))
    assert torch.equal(batch, together)
    assert others == expected
    assert len(others) == 1 + metadata


def test_transform_is_applied_to_each_tensor(release):
    dataset = SDOMLlite(release, transform=lambda tensor: tensor.mean(dim=(1, 2)))
    assert dataset[0][0].shape == (6,)
    batch, _ = collate(dataset.__getitems__([0, 1]))
    assert torch.equal(batch[1], dataset[1][0])


def test_repr_describes_the_dataset(release):
    dataset = SDOMLlite(release, date_exclusions=[("2022-11-02", "2022-11-03")])
    told = repr(dataset)
    for fact in ("40 of", "216 slots every 15 min", "2 shards", "32 × 32", VERSION, *ORIGINAL):
        assert fact in told
    assert "2022-11-01T00:00:00 to 2022-11-03T05:45:00" in told
    coverage = SDOMLlite(release).coverage()
    table = coverage.to_arrow().to_pydict()
    assert table["month"] == ["2022-11"]
    assert table["samples"] == [60]
    assert table["AIA_0211"] == [60]
    assert table["AIA_1700"] == [54]
    assert str(coverage).splitlines()[-1].split()[:3] == ["total", "216", "60"]


def test_sample_can_be_plotted(release, tmp_path):
    figure = SDOMLlite(release).plot_sample("2022-11-01T00:30:00", tmp_path / "sample.png")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == list(ORIGINAL)
    assert (tmp_path / "sample.png").read_bytes()[:4] == b"\x89PNG"


def test_plot_writes_no_file_by_default(release, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = SDOMLlite(release, ["AIA_0193"]).plot_sample(5)
    (axis,) = figure.axes
    (image,) = axis.images
    np.testing.assert_array_equal(image.get_array(), frame(at("2022-11-01T01:15"), "AIA_0193"))
    assert "2022-11-01T01:15:00 UTC" in figure.get_suptitle()
    assert list(tmp_path.iterdir()) == []


def test_plot_error_names_the_missing_package(release, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.colors", None)
    with pytest.raises(ImportError, match="plot_sample needs matplotlib: pip install matplotlib"):
        SDOMLlite(release).plot_sample()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": ["AIA_0195"]}, r"unknown channel AIA_0195; .* has AIA_0094, AIA_0131"),
        (
            {"channels": ["AIA_0304"]},
            r"these shards do not contain AIA_0304; .* has AIA_0094, AIA_0131",
        ),
        ({"channels": []}, "no channels were requested; .* has AIA_0094"),
        ({"channels": ["hmi_m", "HMI_M"]}, "twice"),
        (
            {"date_start": "2023-01-01"},
            "has samples from 2022-11-01T00:00:00 to 2022-11-03T05:45:00",
        ),
        ({"date_end": "2022-11-01"}, "has samples from 2022-11-01T00:00:00 to 2022-11-03T05:45:00"),
        ({"date_start": "2022-11-02", "date_end": "2022-11-02"}, "empty range"),
        ({"date_start": "yesterday"}, "date_start 'yesterday' is not an ISO date"),
        ({"date_start": 20221101}, "neither a datetime nor an ISO date"),
        ({"date_exclusions": [("2022-11-02", "2022-11-01")]}, "empty exclusion"),
        (
            {"date_exclusions": [("2022-11-01", "2022-12-01")]},
            "T05:45:00: date_exclusions removes all 72 samples$",
        ),
        (
            {"date_start": "2022-11-01T03:00", "date_end": "2022-11-01T04:00"},
            "in these 4 samples: HMI_M 4, AIA_0131 4, .*AIA_0211 0, AIA_1600 4$",
        ),
        (
            {
                "date_start": "2022-11-01T03:00",
                "date_end": "2022-11-01T05:00",
                "date_exclusions": [("2022-11-01T03:45", "2022-11-01T08:00")],
            },
            "in these 3 samples: HMI_M 3, .*AIA_1600 3; date_exclusions removes 5 more$",
        ),
        ({"units": "kelvin"}, "unknown unit 'kelvin'; choose from normalized, dn, gauss"),
        ({"units": "gauss", "channels": ["AIA_0193"]}, "the channels are AIA_0193"),
        ({"units": "dn", "channels": ["HMI_M"]}, "the channels are HMI_M"),
    ],
)
def test_errors_list_the_available_values(release, options, message):
    with pytest.raises(DatasetError, match=message):
        SDOMLlite(release, **options)


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("2022-11-01T03:15", r"has no AIA_0211; .* 2022-11-01T02:45:00, 2022-11-01T04:00:00"),
        ("2022-11-01T00:07", "no frames for that time; the nearest are 2022-11-01T00:00:00"),
        ("2022-11-02T01:00", "the time is excluded"),
        ("2031-01-01", "the dataset runs from 2022-11-01T00:00:00 to 2022-11-03T05:45:00"),
        (date(2021, 1, 1), "the dataset runs from"),
        (None, "a number, datetime or ISO string"),
        (1.5, "a number, datetime or ISO string"),
    ],
)
def test_error_for_a_missing_time_explains_the_reason(release, time, message):
    dataset = SDOMLlite(release, date_exclusions=[("2022-11-02", "2022-11-03")])
    with pytest.raises(DatasetError, match=message):
        dataset[time]


def test_error_for_mixed_normalizations_lists_the_versions(tmp_path):
    write_day(tmp_path, FIRST, version="aaaa")
    write_day(tmp_path, FIRST + timedelta(days=1), version="bbbb")
    with pytest.raises(NormalizationError, match="versions aaaa, bbbb"):
        SDOMLlite(tmp_path)


def test_error_for_a_folder_without_shards_names_a_folder_with_shards(tmp_path, tree):
    with pytest.raises(StoreError, match=r"folder .* does not exist"):
        SDOMLlite(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(StoreError, match=r"notes\.txt is a file; pass its folder instead"):
        SDOMLlite(tmp_path / "notes.txt")
    with pytest.raises(DatasetError, match=r"no shards \(\*\.tar\)"):
        SDOMLlite(tmp_path)
    with pytest.raises(DatasetError, match=r"there are shards in .*shards"):
        SDOMLlite(tree.parent)


def shard_of(folder):
    return folder / "sdoml-lite-001.tar"


@pytest.fixture
def copy(release, tmp_path):
    shutil.copytree(release, tmp_path / "copy")
    return tmp_path / "copy"


def test_truncated_shard_is_detected(copy):
    shard = shard_of(copy)
    shard.write_bytes(shard.read_bytes()[:-5000])
    with pytest.raises(DamagedFileError, match=r"sdoml-lite-001\.tar .* bytes, but its index says"):
        SDOMLlite(copy)[0]


def test_missing_shards_are_listed_and_can_be_skipped(copy):
    whole = SDOMLlite(copy)
    shard_of(copy).unlink()
    message = r"1 of 3 shards are missing .*: sdoml-lite-001\.tar\. .*missing_shards='skip'"
    with pytest.raises(DatasetError, match=message):
        SDOMLlite(copy)
    rest = SDOMLlite(copy, missing_shards="skip")
    assert rest.times.tolist() == [t for t in whole.times.tolist() if t.day != 1]
    assert rest[0][1] == str(rest.times[0])
    assert sum(rest.coverage().complete) == len(rest)
    with pytest.raises(StoreError, match=r"sdoml-lite-001\.tar"):
        whole[0]
    with pytest.raises(DatasetError, match="missing_shards must be raise or skip, not 'ignore'"):
        SDOMLlite(copy, missing_shards="ignore")


def test_replaced_shard_is_detected(copy):
    shard = shard_of(copy)
    data = shard.read_bytes()
    shard.write_bytes(bytes(512) + data[:-512])
    with pytest.raises(DamagedFileError, match="does not match its index"):
        SDOMLlite(copy)[0]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_verify_detects_an_altered_pixel(tmp_path, dtype):
    folder = write_release(tmp_path, 1, dtype=dtype)
    shard = shard_of(folder)
    data = bytearray(shard.read_bytes())
    place = data.index(b"0000.AIA_0193.npy") + 512 + 128 + 100
    data[place] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"AIA_0193 at 2022-11-01T00:00:00 .* is damaged"):
        SDOMLlite(folder, verify=True)[0]
    check(SDOMLlite(folder, verify=True), 1, dtype=dtype)


def test_damaged_index_raises_a_typed_error(copy):
    index = copy / "index.parquet"
    data = index.read_bytes()
    for cut in range(0, len(data), 131):
        index.write_bytes(data[:cut])
        with pytest.raises(SdomlError):
            SDOMLlite(copy)
    rng = np.random.default_rng(5)
    for _ in range(300):
        altered = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            altered[place] = rng.integers(256)
        index.write_bytes(altered)
        with contextlib.suppress(SdomlError):
            SDOMLlite(copy, metadata=True, verify=True)[0]


def test_shards_without_an_index_have_no_constants(tmp_path):
    write_day(tmp_path, FIRST, index=False)
    with pytest.raises(NormalizationError, match="the normalization constant of AIA_0131"):
        SDOMLlite(tmp_path, units="dn")
    with pytest.raises(DatasetError, match="verify=True needs indexes"):
        SDOMLlite(tmp_path, verify=True)
    assert SDOMLlite(tmp_path, metadata=True)[0][2]["HMI_M"]["quality"] is None


def test_date_range_is_clipped_to_the_data(release):
    wide = SDOMLlite(release, date_start="1999-01-01", date_end="2099-01-01")
    assert wide.coverage() == SDOMLlite(release).coverage()
    assert repr(wide) == repr(SDOMLlite(release))


class Scaled(torch.nn.Module):
    """A module that is used as a transform and has a time parameter."""

    def forward(self, tensor, time):
        return tensor.mean() + float(time[14:16])


@pytest.mark.parametrize(
    "transform", [Scaled(), lambda tensor, *, time="": tensor.mean() + float(time[14:16])]
)
def test_transform_receives_the_sample_time(release, transform):
    plain, dataset = SDOMLlite(release), SDOMLlite(release, transform=transform)
    images, times = collate(dataset.__getitems__([1, 2]))
    for number, time in zip((1, 2), times, strict=True):
        expected = plain[number][0].mean() + float(time[14:16])
        assert images[number - 1] == dataset[number][0] == expected


def test_transform_without_a_time_parameter_receives_only_the_tensor(release):
    for transform in (torch.sum, torch.nn.Flatten(0), lambda tensor, scale=2: scale * tensor):
        assert torch.is_tensor(SDOMLlite(release, transform=transform)[0][0])


def test_coverage_with_two_cadences_has_no_more_samples_than_slots(tmp_path, monkeypatch):
    monkeypatch.setattr(
        synthetic_shards, "missing", lambda slot, channel: slot.day < 6 and slot.minute
    )
    # Five days with hourly samples, and one day with samples every 15 minutes.
    for number in range(6):
        day = FIRST + timedelta(days=number)
        write_day(tmp_path, day, hours=24, side=8, channels=["HMI_M"])
    dataset = SDOMLlite(tmp_path, ["HMI_M"])
    coverage = dataset.coverage()
    assert (coverage.complete, coverage.slots) == ((216,), (216,))
    assert "216 of 216 slots" in repr(dataset)


def test_part_of_a_dataset_stays_within_its_range(release):
    dataset = SDOMLlite(release, ["HMI_M"], date_start="2022-11-02", date_end="2022-11-03")
    part = dataset.within([("2022-11-01", "2022-11-02T03:00")])
    assert part.times[0] == np.datetime64("2022-11-02")
    assert part.coverage().slots == (12,)
    assert len(SDOMLliteSequences(part, past=2)) == 11


def test_overlapping_or_adjacent_ranges_are_merged(release):
    dataset = SDOMLlite(release, ["HMI_M"])
    whole = dataset.within([("2022-11-01T01:00", "2022-11-01T04:00")])
    for ranges in (
        [("2022-11-01T02:00", "2022-11-01T04:00"), ("2022-11-01T01:00", "2022-11-01T03:00")],
        [("2022-11-01T01:00", "2022-11-01T02:30"), ("2022-11-01T02:30", "2022-11-01T04:00")],
    ):
        part = dataset.within(ranges)
        assert part.coverage() == whole.coverage()
        assert len(SDOMLliteSequences(part, past=3)) == len(SDOMLliteSequences(whole, past=3))


def test_inverted_range_is_rejected(release):
    dataset = SDOMLlite(release, ["HMI_M"])
    with pytest.raises(DatasetError, match="empty range: 2022-11-02"):
        dataset.within([("2022-11-02", "2022-11-01"), ("2022-11-01", "2022-11-02")])
    with pytest.raises(
        DatasetError,
        match=r"given ranges \(an empty list\); the dataset has samples from 2022-11-01T",
    ):
        dataset.within([])


def test_error_explains_that_a_time_is_between_two_ranges(release):
    part = SDOMLlite(release, ["HMI_M"]).within(
        [("2022-11-01", "2022-11-02"), ("2022-11-03", "2022-11-04")]
    )
    with pytest.raises(DatasetError, match="the time is between the ranges of the dataset"):
        part["2022-11-02T01:00"]
