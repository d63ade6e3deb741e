"""Dataset folders: relative paths, URLs, growing folders, links and file limits."""

import multiprocessing
import resource
import time
import warnings
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.errors import DatasetError
from sdoml_core.loader import BatchLoader, SDOMLlite
from tests.support.synthetic_shards import FIRST, at, frame, write_day, write_release

CHANNELS = ("AIA_0171", "HMI_M")


def check(sample) -> None:
    tensor, moment = sample
    for pixels, channel in zip(tensor, CHANNELS, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), frame(at(moment), channel))


def test_relative_path_survives_chdir(tmp_path, monkeypatch):
    for name in ("here", "there"):
        write_day(tmp_path / name / "shards", FIRST + (name == "there") * timedelta(days=1))
    monkeypatch.chdir(tmp_path / "here")
    dataset = SDOMLlite("shards", CHANNELS, metadata=True)
    monkeypatch.chdir(tmp_path / "there")
    assert dataset[0][1] == f"{FIRST}T00:00:00"
    check(dataset[0][:2])
    assert dataset.coverage().complete == (len(dataset),)
    assert not (tmp_path / "there/shards/.sdoml-lite-index.parquet").exists()


def test_file_urls_with_escapes_and_localhost_are_opened(tmp_path):
    folder = write_release(tmp_path / "with space & é", 1)
    for url in (folder.as_uri(), folder.as_uri().replace("file://", "file://localhost")):
        check(SDOMLlite(url, CHANNELS)[0])
    with pytest.raises(DatasetError, match="refers to another host"):
        SDOMLlite("file://elsewhere/data", CHANNELS)


def test_broken_link_is_skipped_with_a_warning(tmp_path):
    write_day(tmp_path, FIRST, index=False)
    link = tmp_path / "sdoml-lite-2022-11-09.tar"
    link.symlink_to(tmp_path / "gone.tar")
    with pytest.warns(UserWarning, match=rf"{link} is skipped because it is a broken link"):
        assert len(SDOMLlite(tmp_path, CHANNELS)) == 24


def test_dataset_respects_the_process_file_limit(tmp_path):
    for day in range(40):
        write_day(tmp_path, FIRST + timedelta(days=day), hours=1, side=8)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = Path("/proc/self/fd")
    used = len(list(open_files.iterdir())) if open_files.exists() else 40
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 24, hard))
    try:
        dataset = SDOMLlite(tmp_path, CHANNELS)
        read = sum(len(times) for _, times in BatchLoader(dataset, 8, shuffle=True, seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert read == len(dataset) == 160


def _grow(folder: Path, days: int) -> None:
    for day in range(1, days):
        write_day(folder / "2022", FIRST + timedelta(days=day), hours=1, side=8)
        if day % 3 == 0:  # an earlier day is rebuilt
            write_day(folder / "2022", FIRST + timedelta(days=day - 1), hours=1, side=8)


def test_folder_can_be_opened_while_days_are_added(tmp_path):
    write_day(tmp_path / "2022", FIRST, hours=1, side=8)
    kept = SDOMLlite(tmp_path, CHANNELS, metadata=True)
    writer = multiprocessing.get_context("fork").Process(target=_grow, args=(tmp_path, 60))
    writer.start()
    lengths: list[int] = []
    deadline = time.monotonic() + 200
    with warnings.catch_warnings():
        # The loader skips days whose index has not been written yet and issues a warning.
        warnings.filterwarnings("ignore", message="these files are skipped")
        while writer.is_alive() or not lengths or lengths[-1] < 240:
            dataset = SDOMLlite(tmp_path, CHANNELS)
            lengths.append(len(dataset))
            assert dataset[-1][0].shape == (2, 8, 8)
            assert (repr(kept), len(kept), kept.coverage().complete) == (repr(kept), 4, (4,))
            assert len(kept[3][2]) == 2
            assert time.monotonic() < deadline
    writer.join()
    assert writer.exitcode == 0
    assert lengths[-1] == 240
