"""`LiveDataset` returns the newest window of a folder that another process keeps up to date."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, DatasetError, StoreError
from sdoml_core.formats.index import Index
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard import ShardWriter
from sdoml_core.loader import LiveDataset
from tests.support.synthetic_shards import VERSION, facts, frame

MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 30, 20, tzinfo=UTC)
CHANNELS_USED = ("AIA_0171", "AIA_1700", "HMI_M")


class Folder:
    """A live folder in which tests publish slots."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.indexes: dict[datetime, Index] = {}
        path.mkdir()

    def publish(self, *slots: int, channels: tuple[str, ...] = CHANNELS_USED) -> None:
        """Publish slots with the given channels. Slots are given in minutes after the start."""
        for minute in slots:
            slot = START + minute * MINUTE
            name = f"slot-{minute:04d}-{len(channels)}.tar"
            with (self.path / name).open("wb") as file:
                writer = ShardWriter(file)
                for channel in channels:
                    writer.add(slot, CHANNELS[channel], frame(slot, channel), facts(slot, channel))
                summary = writer.close()
            self.indexes[slot] = Index(summary.table, name, summary.bytes, summary.sha256, VERSION)
        self.replace_index()

    def replace_index(self) -> None:
        temporary = self.path / ".index"
        temporary.write_bytes(consolidate(self.indexes.values()))
        temporary.rename(self.path / "index.parquet")

    def open(self, minutes: float = 120, **options: object) -> LiveDataset:
        now = START + minutes * MINUTE
        return LiveDataset(self.path, CHANNELS_USED, now=lambda: now, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "live")


def test_latest_window_has_frames_mask_and_times(folder):
    folder.publish(0, 15, 30)
    window = folder.open().latest(past=2)
    assert window.times == ["2026-03-30T20:15:00", "2026-03-30T20:30:00"]
    assert window.frames.shape == (2, 3, 32, 32)
    assert window.mask.all()
    expected = frame(START + 30 * MINUTE, "AIA_1700")
    np.testing.assert_array_equal(window.frames[1, 1].numpy(), expected)


def test_missing_frames_are_masked(folder):
    folder.publish(0, 30)
    folder.publish(45, channels=("AIA_0171", "AIA_1700"))
    window = folder.open().latest(past=4)
    assert window.mask.tolist() == [[True] * 3, [False] * 3, [True] * 3, [True, True, False]]
    assert torch.isnan(window.age[3, 2])
    assert (window.frames[3, 2] == 0).all()


def test_window_may_start_before_the_first_slot(folder):
    folder.publish(0)
    window = folder.open().latest(past=3)
    assert window.mask.tolist() == [[False] * 3, [False] * 3, [True] * 3]


def test_older_frames_replace_missing_ones_up_to_max_age(folder):
    folder.publish(0, 15)
    folder.publish(30, 45, channels=("AIA_0171", "AIA_1700"))
    window = folder.open(50).latest(past=3, max_age=30 * MINUTE)
    assert window.age[:, 2].tolist() == [0, 15, 30]
    expected = frame(START + 15 * MINUTE, "HMI_M")
    np.testing.assert_array_equal(window.frames[2, 2].numpy(), expected)
    folder.publish(60, channels=("AIA_0171",))
    assert folder.open(61).latest(past=1, max_age=30 * MINUTE).times == ["2026-03-30T20:45:00"]


def test_only_complete_windows_are_returned(folder):
    folder.publish(0, 15)
    folder.publish(30, channels=("AIA_0171",))
    dataset = folder.open()
    assert dataset.latest(past=2, gaps="drop").times[-1] == "2026-03-30T20:15:00"
    with pytest.raises(DatasetError, match="20:30:00 lacks frames"):
        dataset.latest(past=2, gaps="raise")


def test_nothing_older_than_requested_is_returned(folder):
    folder.publish(0)
    assert folder.open(60).latest(past=1, max_age=60 * MINUTE).times == ["2026-03-30T20:00:00"]
    with pytest.raises(DatasetError, match=r"ended 1:01:00 ago, at 2026-03-30T20:00:00"):
        folder.open(61).latest(past=1, max_age=60 * MINUTE)


def test_refresh_sees_new_slots(folder):
    folder.publish(0)
    dataset = folder.open()
    assert not dataset.refresh()
    folder.publish(15)
    assert len(dataset) == 1
    assert dataset.refresh()
    assert [str(time) for time in dataset.times] == ["2026-03-30T20:00:00", "2026-03-30T20:15:00"]


def test_slot_gains_a_channel_that_arrives_later(folder):
    folder.publish(0)
    folder.publish(15, channels=("AIA_0171",))
    dataset = folder.open()
    assert dataset.latest(past=1).mask.tolist() == [[True, False, False]]
    folder.publish(15)
    assert dataset.latest(past=1).mask.all()


def test_iteration_waits_for_the_next_slot(folder):
    folder.publish(0, 15)
    dataset = folder.open()
    windows = dataset.windows(past=1, poll=0.01)
    assert next(windows).times == ["2026-03-30T20:15:00"]
    timer = threading.Timer(0.1, folder.publish, (30, 45))
    timer.start()
    assert next(windows).times == ["2026-03-30T20:30:00"]
    assert next(windows).times == ["2026-03-30T20:45:00"]
    timer.join()


def test_iteration_ends_after_the_timeout(folder):
    folder.publish(0)
    found = [window.times[-1] for window in folder.open().windows(past=1, poll=0.01, timeout=0.05)]
    assert found == ["2026-03-30T20:00:00"]


def test_removed_shard_is_looked_up_again(folder, monkeypatch):
    folder.publish(0, 15)
    dataset = folder.open()
    asleep = [True, False]
    refresh = dataset.refresh
    monkeypatch.setattr(dataset, "refresh", lambda: not asleep.pop(0) and refresh())
    folder.publish(15, channels=("AIA_0171", "AIA_1700"))
    (folder.path / "slot-0015-3.tar").unlink()
    assert dataset.latest(past=1).mask.tolist() == [[True, True, False]]


def test_damaged_frame_is_never_returned(folder):
    folder.publish(0)
    path = folder.path / "slot-0000-3.tar"
    data = bytearray(path.read_bytes())
    data[folder.indexes[START].table["data_offset"][2].as_py() + 99] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match="CRC-32"):
        folder.open().latest(past=1)


def test_folder_without_an_index_is_an_error(tmp_path):
    with pytest.raises(StoreError, match=r"index\.parquet"):
        LiveDataset(tmp_path)


def test_handles_of_removed_shards_are_closed(folder):
    dataset = None
    for number in range(8):
        folder.publish(15 * number)
        dataset = dataset or folder.open()
        dataset.latest(past=1)
        oldest = min(folder.indexes)
        (folder.path / folder.indexes.pop(oldest).shard).unlink()
        folder.replace_index()
        folder.publish(15 * number + 1)
    dataset.latest(past=1)
    held = dataset._files._handles
    assert set(held) == {index.shard for index in folder.indexes.values()} & set(held)


def test_live_dataset_works_on_an_object_store(folder):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    folder.publish(0, 15)

    def upload() -> None:
        for path in folder.path.iterdir():
            memory.pipe_file(f"/live/{path.name}", path.read_bytes())

    upload()
    dataset = LiveDataset("memory://live", CHANNELS_USED, now=lambda: START)
    assert dataset.latest(past=2).mask.all()
    folder.publish(30)
    upload()
    assert dataset.latest(past=1).times == ["2026-03-30T20:30:00"]
    memory.rm("/live", recursive=True)


def test_slot_fields_do_not_depend_on_requested_channels(folder):
    folder.publish(0)
    one = LiveDataset(folder.path, ["hmi_m"], now=lambda: START)
    assert one.channels == ("HMI_M",)
    assert one.latest(past=1).frames.shape == (1, 1, 32, 32)
