"""Flags, measures and masks in the loader, and older shards and releases that lack them."""

import dataclasses
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.errors import DatasetError
from sdoml_core.formats.holes import encode_holes
from sdoml_core.formats.shard import FrameFacts
from sdoml_core.frames.flags import FLAGS, flag_mask
from sdoml_core.loader import SDOMLlite, SDOMLliteSequences
from tests.support.synthetic_shards import FIRST, SIDE, at, facts, write_day, write_release

OLD = Path(__file__).parents[2] / "data/0.1.0"
CHANNELS = ("AIA_0171", "AIA_0193")
ECLIPSE = at("2022-11-01T02:15")


def flagged(slot: datetime, channel: str) -> FrameFacts:
    """Return metadata in which one 193 Å frame has an eclipse and no data in its left half."""
    if slot != ECLIPSE or channel != "AIA_0193":
        return dataclasses.replace(facts(slot, channel), flags=0, missing=0)
    hole = np.zeros((SIDE, SIDE), np.bool_)
    hole[:, : SIDE // 2] = True
    return dataclasses.replace(
        facts(slot, channel),
        flags=flag_mask(["partial_disk", "missing_pixels"]),
        missing=20_000,
        visible=0.5,
        holes=encode_holes(hole),
    )


@pytest.fixture(params=["release", "daily"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "release":
        return write_release(tmp_path, 1, facts_of=flagged)
    write_day(tmp_path, FIRST, facts_of=flagged)
    return tmp_path


def test_flags_and_measures_are_in_the_metadata(folder: Path) -> None:
    dataset = SDOMLlite(folder, CHANNELS, metadata=True)
    found = dataset[ECLIPSE][2]["AIA_0193"]
    assert found["flags"] == ("partial_disk", "missing_pixels")
    assert (found["missing"], found["visible"], found["radius"]) == (20_000, 0.5, None)
    assert dataset[ECLIPSE][2]["AIA_0171"]["flags"] == ()


def test_frames_with_an_excluded_flag_are_missing(folder: Path) -> None:
    everything = SDOMLlite(folder, CHANNELS)
    without = SDOMLlite(folder, CHANNELS, exclude_flags=["partial_disk"])
    assert set(everything.dates) - set(without.dates) == {ECLIPSE.replace(tzinfo=None)}
    assert len(SDOMLlite(folder, CHANNELS, exclude_flags=["bright"])) == len(everything)
    assert len(SDOMLlite(folder, ["AIA_0171"], exclude_flags=["partial_disk"])) == len(everything)


def test_sequences_treat_excluded_frames_as_gaps(folder: Path) -> None:
    dataset = SDOMLlite(folder, CHANNELS, exclude_flags="partial_disk")
    windows = SDOMLliteSequences(
        dataset, past=2, stride=timedelta(minutes=15), horizon=timedelta(minutes=15), gaps="drop"
    )
    times = {time for window in windows for time in window["times"]}
    assert "2022-11-01T02:30:00" in times
    assert "2022-11-01T02:15:00" not in times


def test_error_for_an_unknown_flag_lists_the_known_flags(folder: Path) -> None:
    with pytest.raises(
        DatasetError, match="exclude_flags: unknown flag 'cloudy'; choose from prov"
    ):
        SDOMLlite(folder, CHANNELS, exclude_flags=["cloudy"])


def test_mask_marks_pixels_with_data(folder: Path) -> None:
    dataset = SDOMLlite(folder, CHANNELS)
    mask = dataset.mask(ECLIPSE).numpy()
    assert mask.shape == (2, SIDE, SIDE)
    assert mask[0].all()
    assert not mask[1, :, : SIDE // 2].any()
    assert mask[1, :, SIDE // 2 :].all()
    assert dataset.mask(0).all()


@pytest.mark.parametrize("kind", ["release", "daily"])
def test_shards_of_version_0_1_0_still_load(kind: str, tmp_path: Path) -> None:
    source = OLD / ("releases/sdoml-lite" if kind == "release" else "shards")
    shutil.copytree(source, tmp_path / "data")
    channels = ("AIA_0193", "HMI_M")
    dataset = SDOMLlite(tmp_path / "data", channels, metadata=True, exclude_flags=FLAGS)
    assert len(dataset) == 2
    images, _, found = dataset[0]
    assert images.shape == (2, 64, 64)
    assert 0 < float(images.mean()) < 1
    assert found["AIA_0193"]["flags"] == ()
    assert found["AIA_0193"]["missing"] is None
    assert found["AIA_0193"]["exposure"] > 0
    assert dataset.mask(0).all()


def test_days_of_old_and_new_versions_can_be_mixed(tmp_path: Path) -> None:
    """After an update of the package, a folder may have a saved index from before the update."""
    shutil.copytree(OLD / "shards/2024", tmp_path / "data")
    assert len(SDOMLlite(tmp_path / "data", ["AIA_0193"])) == 2
    version = "9544ac663562215e"
    constant = SDOMLlite(tmp_path / "data", ["AIA_0193"]).reader.catalog.constants["AIA_0193"]
    write_day(
        tmp_path / "data",
        FIRST,
        channels=["AIA_0193"],
        side=64,
        version=version,
        facts_of=lambda slot, channel: dataclasses.replace(
            flagged(slot, channel), constant=constant["constant"], holes=None
        ),
    )
    both = SDOMLlite(tmp_path / "data", ["AIA_0193"], metadata=True)
    assert len(both) == 26
    assert both[ECLIPSE][2]["AIA_0193"]["flags"] == ("partial_disk", "missing_pixels")
    assert both[len(both) - 1][2]["AIA_0193"]["flags"] == ()
