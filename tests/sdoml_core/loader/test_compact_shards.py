"""With any reader, samples from compact shards match those from npy shards within half a step."""

import pickle
import shutil
import sys

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sdoml_core.errors import DamagedFileError
from sdoml_core.loader import BatchLoader, SDOMLlite, SDOMLliteSequences, shard_dataset
from tests.support.synthetic_shards import CONSTANT, FIRST, STEPS, write_day, write_release

CHANNELS = ("AIA_0171", "AIA_0193", "HMI_M")
HALF_A_STEP = 0.5 / STEPS + 1e-7


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("compact"), 1, encoding="compact", hours=2)


@pytest.fixture(scope="module")
def npy(tmp_path_factory):
    return write_release(tmp_path_factory.mktemp("npy"), 1, hours=2)


@pytest.fixture(scope="module")
def pixels(compact):
    dataset = SDOMLlite(compact, CHANNELS)
    return torch.stack([dataset[number][0] for number in range(len(dataset))])


def test_samples_match_npy_shards_within_half_a_step(compact, npy, pixels):
    dataset, exact = SDOMLlite(compact, CHANNELS, verify=True), SDOMLlite(npy, CHANNELS)
    assert "32 × 32, compact in shards, normalized" in repr(dataset)
    assert [dataset[n][1] for n in range(8)] == [exact[n][1] for n in range(8)]
    for number in range(len(exact)):
        assert (pixels[number] - exact[number][0]).abs().max() <= HALF_A_STEP
        torch.testing.assert_close(dataset[number][0], pixels[number], rtol=0, atol=0)
    assert (pixels != torch.stack([exact[n][0] for n in range(len(exact))])).any()


def test_batches_streams_sequences_and_workers_return_the_same_pixels(compact, pixels):
    dataset = SDOMLlite(compact, CHANNELS)
    batches = torch.cat([batch for batch, _ in BatchLoader(dataset, batch_size=3)])
    stream = shard_dataset(compact, CHANNELS, shuffle=False, batch_size=4)
    streamed = torch.cat([batch for batch, _ in stream])
    workers = torch.cat([batch for batch, _ in DataLoader(dataset, batch_size=4, num_workers=1)])
    copied = pickle.loads(pickle.dumps(dataset))
    for got in (batches, streamed, workers, torch.stack([copied[n][0] for n in range(8)])):
        torch.testing.assert_close(got, pixels, rtol=0, atol=0)
    windows = SDOMLliteSequences(dataset, past=2)
    torch.testing.assert_close(windows[3]["past"], pixels[3:5], rtol=0, atol=0)


def test_remote_frames_and_maps_have_the_same_pixels(compact, pixels):
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(compact), "/compact", recursive=True)
    try:
        dataset = SDOMLlite("memory://compact", CHANNELS)
        remote = torch.stack([dataset[number][0] for number in range(len(dataset))])
        torch.testing.assert_close(remote, pixels, rtol=0, atol=0)
        drawn = dataset.sunpy_map(3, "AIA_0193")
    finally:
        filesystem.rm("/compact", recursive=True)
    local = SDOMLlite(compact, CHANNELS).sunpy_map(3, "AIA_0193")
    np.testing.assert_array_equal(drawn.data, local.data)
    dn = pixels[3, 1].numpy()[::-1] ** 2 * np.float32(CONSTANT / (1024 / 32) ** 2)
    np.testing.assert_allclose(drawn.data, dn, rtol=1e-5)


def test_folder_without_indexes_has_the_same_pixels(tmp_path, pixels):
    write_day(tmp_path / "2022", FIRST, encoding="compact-fine", hours=2, index=False)
    dataset = SDOMLlite(tmp_path, CHANNELS)
    torch.testing.assert_close(dataset[5][0], pixels[5], rtol=0, atol=0)


def test_physical_units_round_trip(compact, npy, pixels):
    dn = SDOMLlite(compact, ["AIA_0193"], units="dn")[2][0][0]
    torch.testing.assert_close(dn, pixels[2, 1] ** 2 * (CONSTANT / (1024 / 32) ** 2))
    field = SDOMLlite(compact, ["HMI_M"], units="gauss")[2][0].numpy()
    exact = SDOMLlite(npy, ["HMI_M"], units="gauss")[2][0].numpy()
    known = np.isfinite(field) & np.isfinite(exact)  # the measured limbs may differ slightly
    assert known.mean() > 0.9
    assert np.median(np.abs(field - exact)[known]) < 0.5


def damage(folder, tmp_path, member, place, value):
    """Copy a release and change one byte of a member's data."""
    copy = shutil.copytree(folder, tmp_path / "damaged")
    (shard,) = copy.glob("*.tar")
    data = bytearray(shard.read_bytes())
    start = data.index(member) + 512 + 5760
    assert data[start + place] != value
    data[start + place] = value
    shard.write_bytes(data)
    return copy


def test_damage_is_detected(compact, tmp_path):
    # A damaged tile size is always detected, but a damaged pixel only with verify=True.
    copy = damage(compact, tmp_path, b"0015.AIA_0193.fits", 3, 255)
    with pytest.raises(DamagedFileError, match=r"AIA_0193 at 2022-11-01T00:15.*tile table of a"):
        SDOMLlite(copy, CHANNELS)[1]
    SDOMLlite(copy, CHANNELS)[2]
    shutil.rmtree(copy)
    copy = damage(compact, tmp_path, b"0030.AIA_0193.fits", 200, 0)
    with pytest.raises(DamagedFileError, match="its CRC-32 does not match"):
        SDOMLlite(copy, CHANNELS, verify=True)[2]


def test_npy_and_compact_shards_cannot_be_mixed(tmp_path):
    write_day(tmp_path, FIRST, hours=1)
    write_day(tmp_path, FIRST.replace(day=2), hours=1, encoding="compact")
    with pytest.raises(DamagedFileError, match="shards differ in"):
        SDOMLlite(tmp_path, CHANNELS)


def test_error_for_missing_numba_names_the_extra(compact, monkeypatch):
    monkeypatch.setitem(sys.modules, "sdoml_core.fits.rice", None)
    with pytest.raises(ImportError, match=r"pip install 'sdoml-lite\[compact\]'"):
        SDOMLlite(compact, CHANNELS)[0]
