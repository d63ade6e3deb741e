"""`compat.SDOMLlite` has the interface and the rules of the original loader.

The original loader and a radiation forecast that uses it were compared manually; see
docs/migration.md.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

from sdoml_core.loader import BatchLoader
from sdoml_core.loader.compat import SDOMLlite
from tests.support.synthetic_shards import frame


def at(text: str) -> datetime:
    """Return a naive datetime, as the original does."""
    return datetime.fromisoformat(text)


FIRST_SLOT = at("2022-11-01")
LAST_SLOT = at("2022-11-03T05:45")
STEP = timedelta(minutes=15)


def test_default_channels_and_attributes_match_the_original(release: Path) -> None:
    dataset = SDOMLlite(release)
    assert dataset.channels == ["hmi_m", "aia_0131", "aia_0171", "aia_0193", "aia_0211", "aia_1600"]
    assert (dataset.date_start, dataset.date_end) == (FIRST_SLOT, LAST_SLOT)
    assert (dataset.name, dataset.delta_minutes) == ("SDOML-lite", 15)
    assert repr(dataset) == "SDOML-lite (2022-11-01 00:00:00 - 2022-11-03 05:45:00)"
    assert dataset.dates_set == set(dataset.dates)
    assert dataset.date_exclusions is None


def test_last_slot_is_left_out(release: Path) -> None:
    dataset = SDOMLlite(release, ["hmi_m"])
    assert len(dataset) == 3 * 24 - 1
    assert dataset.dates[0] == FIRST_SLOT
    assert dataset.dates[-1] == LAST_SLOT - STEP
    assert dataset[LAST_SLOT] == (None, "2022-11-03T05:45:00")


def test_samples_without_every_channel_are_none(release: Path) -> None:
    dataset = SDOMLlite(release, ["aia_0211", "hmi_m"])
    assert at("2022-11-01T03:30") not in dataset.dates_set
    assert dataset["2022-11-01T03:30:00"] == (None, "2022-11-01T03:30:00")


def test_numbers_datetimes_and_strings_select_the_same_sample(release: Path) -> None:
    dataset = SDOMLlite(release, ["aia_0193", "hmi_m"])
    time = FIRST_SLOT + 5 * STEP
    expected = np.stack([frame(time.replace(tzinfo=UTC), name) for name in ("AIA_0193", "HMI_M")])
    for index in (5, np.int64(5), 5 - len(dataset), time, "2022-11-01T01:15:00"):
        pixels, iso = dataset[index]  # type: ignore[index]
        assert pixels is not None
        assert pixels.dtype == torch.float32
        assert (pixels.numpy() == expected).all()
        assert iso == "2022-11-01T01:15:00"


def test_dates_and_iso_strings_define_a_half_open_range(release: Path) -> None:
    dataset = SDOMLlite(release, ["hmi_m"], "2022-11-01T01:00:00", at("2022-11-01T02:00"))
    assert dataset.dates == [at("2022-11-01T01:00") + n * STEP for n in range(4)]
    assert (dataset.date_start, dataset.date_end) == (
        at("2022-11-01T01:00"),
        at("2022-11-01T02:00"),
    )


def test_slot_grid_starts_at_date_start(release: Path) -> None:
    with pytest.raises(RuntimeError, match=r"\(.*hmi_m\): request fewer channels or another range"):
        SDOMLlite(release, ["hmi_m"], date_start="2022-11-01T00:07:00")


@pytest.mark.parametrize("start", ["2022-10-01", "2022-11-03T05:45:00", "2024-01-01"])
def test_start_outside_the_data_is_moved_to_the_first_slot(release: Path, start: str) -> None:
    with pytest.warns(UserWarning, match="date_start .* 2022-11-01T00:00:00 is used"):
        assert SDOMLlite(release, ["hmi_m"], date_start=start).date_start == FIRST_SLOT


@pytest.mark.parametrize("end", ["2022-11-02", "2022-11-01", "2024-01-01"])
def test_end_outside_the_data_is_moved_to_the_last_slot(release: Path, end: str) -> None:
    with pytest.warns(UserWarning, match="date_end .* 2022-11-03T05:45:00 is used"):
        dataset = SDOMLlite(release, ["hmi_m"], date_start="2022-11-02", date_end=end)
    assert (dataset.date_start, dataset.date_end) == (at("2022-11-02"), LAST_SLOT)


def test_exclusions_are_half_open(release: Path) -> None:
    excluded = (at("2022-11-01T01:00"), at("2022-11-01T02:00"))
    dataset = SDOMLlite(release, ["hmi_m"], date_exclusions=[excluded])
    assert excluded[0] not in dataset.dates_set
    assert excluded[1] in dataset.dates_set
    assert len(dataset) == 3 * 24 - 1 - 4
    assert dataset.date_exclusions == [excluded]


def test_missing_frames_or_shards_raise_the_same_errors_as_the_original(
    release: Path, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="AIA_0304"):
        SDOMLlite(release, ["aia_0304"])
    with pytest.raises(ValueError, match="no shards") as raised:
        SDOMLlite(tmp_path)
    assert not isinstance(raised.value, RuntimeError)


def test_unsupported_sample_indices_are_rejected(release: Path) -> None:
    dataset = SDOMLlite(release, ["hmi_m"])
    with pytest.raises(ValueError, match="number, datetime or ISO string"):
        dataset[1.5]  # type: ignore[index]
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_data_loader_batches_samples(release: Path) -> None:
    dataset = SDOMLlite(release, ["aia_0193", "hmi_m"])
    pixels, times = next(iter(DataLoader(dataset, batch_size=3)))
    assert pixels.shape == (3, 2, 32, 32)
    assert list(times) == [time.isoformat() for time in dataset.dates[:3]]


class Rows:
    """A series with the interface that consumers expect from a dataset with times."""

    def __init__(self, dates: Sequence[datetime]):
        self.dates_set = set(dates)
        self.date_start, self.date_end = min(dates), max(dates)

    def __getitem__(self, date: datetime) -> tuple[Any, str]:
        return torch.tensor(float(date.hour)), date.isoformat()


def test_consumer_windows_use_only_public_attributes(release: Path) -> None:
    """Windows begin at times when all datasets have data. The last frame fills later gaps."""
    sdo = SDOMLlite(release, ["aia_0211", "hmi_m"])
    rows = Rows([FIRST_SLOT + n * STEP for n in range(24)])
    start = max(dataset.date_start for dataset in (sdo, rows))
    end = min(dataset.date_end for dataset in (sdo, rows))
    steps = [start + n * STEP for n in range((end - start) // STEP - 3)]
    begins = [s for s in steps if s in sdo.dates_set and s in rows.dates_set]
    windows = []
    for begin in begins:
        frames: list[torch.Tensor] = []
        for date in (begin + n * STEP for n in range(5)):
            frames.append(sdo[date][0] if date in sdo.dates_set else frames[-1])  # type: ignore[arg-type]
        windows.append(torch.stack(frames))
    assert len(begins) == 16  # 20 possible start times, minus four without 211 Å
    held = windows[begins.index(at("2022-11-01T02:45"))]
    assert (held[1:] == held[0]).all()


def test_parts_around_events_do_not_overlap(release: Path) -> None:
    """For validation by event, each event is a dataset, and training excludes all events."""
    events = [
        (at("2022-11-01T01:00"), at("2022-11-01T02:00")),
        (at("2022-11-02T01:00"), at("2022-11-02T02:00")),
    ]
    held_out = [SDOMLlite(release, ["hmi_m"], start, end) for start, end in events]
    train = SDOMLlite(release, ["hmi_m"], date_exclusions=events)
    assert sum(map(len, held_out)) == 8
    assert all(part.dates_set.isdisjoint(train.dates_set) for part in held_out)
    assert len(train) + 8 == len(SDOMLlite(release, ["hmi_m"]))
    batches = BatchLoader(ConcatDataset(held_out), 3)
    read = [time for _, times in batches for time in times]
    assert read == [date.isoformat() for part in held_out for date in part.dates]
