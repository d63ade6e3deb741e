"""Corrupted frames are intact files whose content is wrong."""

import io
import warnings
from datetime import UTC, datetime

import numpy as np
import pytest
import requests
from astropy.io import fits
from PIL import Image

from sdoml_core.channels import CHANNELS
from sdoml_dagster.archive.tree import archive_path
from sdoml_demo import corruptions
from sdoml_demo.absences import PERFECT
from sdoml_demo.files import AIA_TREE, HMI_TREE
from sdoml_demo.render.aia_file import render_aia
from sdoml_demo.render.fits_file import FitsFile, read_file, write_file
from sdoml_demo.render.hmi import render_hmi
from sdoml_demo.render.real_frames import AIA_HEADER
from sdoml_demo.server import Archive

NOON = datetime(2014, 2, 3, 12, 0, tzinfo=UTC)
KINDS = {kind.name: kind for kind in (*corruptions.AIA, *corruptions.HMI)}


@pytest.fixture(scope="module")
def aia():
    return render_aia(NOON, 193, PERFECT)


@pytest.fixture(scope="module")
def hmi():
    return render_hmi(NOON, PERFECT)


def opened(data):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        with fits.open(io.BytesIO(data)) as hdus:
            return hdus[1].header, np.array(hdus[1].data)


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.mark.parametrize("kind", corruptions.AIA, ids=lambda kind: kind.name)
def test_corrupted_aia_files_differ_and_have_valid_checksums(kind, aia):
    data = kind.change(aia)
    assert data != aia
    assert len(data) % 2880 == 0
    assert int(np.frombuffer(data[2880:], ">u4").sum(dtype=np.uint64)) % 0xFFFFFFFF == 0
    _, image = opened(data)
    assert image.shape == (1024, 1024)


def test_real_files_round_trip():
    data = AIA_HEADER.read_bytes()
    file = read_file(data)
    again = write_file(FitsFile(file.primary, file.cards, file.pixels), {})
    assert again[2880 * 7 :] == data[2880 * 7 :]
    np.testing.assert_array_equal(read_file(again).pixels, file.pixels)


def test_roll_changes_the_pixels_and_the_header(aia):
    header, image = opened(KINDS["roll 180°, in the header"].change(aia))
    _, before = opened(aia)
    assert header["CROTA2"] == 180
    np.testing.assert_array_equal(image, before[::-1, ::-1])


def test_offset_moves_the_disk_to_the_header_position(aia):
    header, image = opened(KINDS["off center, in the header"].change(aia))
    _, before = opened(aia)
    west, north = header["CRPIX1"] - 512.5, header["CRPIX2"] - 512.5
    assert (west, north) == (120, 40)
    np.testing.assert_array_equal(image[440:600, 520:800], before[400:560, 400:680])


def test_rotation_and_zoom_have_the_right_direction():
    pixels = np.zeros((1024, 1024), np.int32)
    pixels[500:524, 800:824] = 1000  # west of the center, where column numbers are larger
    turned = corruptions.resample(pixels, turn=90.0)
    row, column = (int(np.mean(places)) for places in np.nonzero(turned))
    assert row == pytest.approx(811, abs=2)  # a counterclockwise rotation moves it to the north
    assert column == pytest.approx(511, abs=2)
    zoomed = corruptions.resample(pixels, zoom=1.5)
    assert np.mean(np.nonzero(zoomed)[1]) == pytest.approx(511.5 + 300 * 1.5, abs=2)


def test_stale_image_has_the_header_of_its_slot(aia):
    other = render_aia(NOON.replace(hour=11), 193, PERFECT)
    header, image = opened(corruptions.with_pixels_of(aia, other))
    assert header["DATE-OBS"].startswith("2014-02-03T12:00")
    np.testing.assert_array_equal(image, opened(other)[1])


def test_near_real_time_versions_are_marked(aia, hmi):
    channels = CHANNELS["AIA_0193"], CHANNELS["HMI_M"]
    aia_path, hmi_path = (archive_path(channel, NOON) for channel in channels)
    header, image = opened(corruptions.near_real_time(AIA_TREE + aia_path, aia))
    assert header["QUALITY"] == 1 << 30
    np.testing.assert_array_equal(image, opened(aia)[1])
    labels = [
        decoded(data)[992:1008, 290:400, 0].max()
        for data in (hmi, corruptions.near_real_time(HMI_TREE + hmi_path, hmi))
    ]
    assert labels[0] < 20
    assert labels[1] > 200


@pytest.mark.parametrize("kind", corruptions.HMI, ids=lambda kind: kind.name)
def test_corrupted_jpgs_differ_and_keep_their_markers(kind, hmi):
    data = kind.change(hmi)
    assert data != hmi
    assert (data[:2], data[-2:]) == (b"\xff\xd8", b"\xff\xd9")


def test_continuum_image_is_limb_darkened_and_has_no_field(hmi):
    levels = decoded(KINDS["continuum picture"].change(hmi))[..., 0].astype(float)
    middle, near_limb = levels[480:540, 480:540].mean(), levels[500:520, 60:80].mean()
    assert middle > 200
    assert 80 < near_limb < 0.8 * middle
    assert levels[480:540, 480:540].std() < 5


def test_flipped_bits_are_in_the_compressed_pixels(hmi):
    start = hmi.index(b"\xff\xda")
    for seed in range(50):
        damaged = corruptions.flip_pixel_bits(hmi, seed=seed)
        (place,) = [n for n, (a, b) in enumerate(zip(hmi, damaged, strict=True)) if a != b]
        assert start + 14 <= place < len(hmi) - 2


def test_archive_can_serve_corrupted_frames(tmp_path, aia):
    path = archive_path(CHANNELS["AIA_0193"], NOON)
    other = archive_path(CHANNELS["AIA_0171"], NOON)
    roll = KINDS["roll 180°, in the header"].change

    def alter(path, body):
        return roll(body) if "0193" in path else body

    with Archive(cache=tmp_path, absences=False, alter=alter) as archive:
        altered = requests.get(f"{archive.aia_root}/{path}", timeout=30)
        unaltered = requests.get(f"{archive.aia_root}/{other}", timeout=30)
    assert altered.content == roll(aia)
    assert int(altered.headers["Content-Length"]) == len(altered.content)
    assert opened(unaltered.content)[0]["CROTA2"] == 0
