"""Rendered HMI catalog images."""

import hashlib
import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from sdoml_demo.absences import PERFECT, Condition
from sdoml_demo.render import solar_state
from sdoml_demo.render.hmi import gray_levels, render_hmi
from sdoml_demo.render.real_frames import magnetogram
from sdoml_demo.render.surface import paint_field

NOON = datetime(2014, 2, 3, 12, 0, tzinfo=UTC)


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


def radii():
    offset = np.arange(1024) - 511.5
    return np.hypot(offset[:, None], offset[None, :])


def test_file_is_an_rgb_jpeg_with_the_real_dimensions():
    data = render_hmi(NOON, PERFECT)
    assert data[:2] == b"\xff\xd8"
    assert data[-2:] == b"\xff\xd9"
    assert 300_000 < len(data) < 600_000
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode, image.size) == ("RGB", (1024, 1024))
        # These are the first entries of the luminance table for quality 95.
        assert list(image.quantization[0][:4]) == [2, 1, 1, 2]


@pytest.mark.parametrize(("month", "expected"), [(1, 483.7), (6, 468.6), (8, 470.1)])
def test_disk_radius_depends_on_the_date(month, expected):
    levels = gray_levels(datetime(2018, month, 20, 12, 0, tzinfo=UTC), PERFECT, seed=1)
    levels[988:] = 0  # remove the label
    area = np.count_nonzero(levels)
    assert np.sqrt(area / np.pi) == pytest.approx(expected, abs=1.0)
    radius = solar_state.observe(datetime(2018, month, 20, 12, 0, tzinfo=UTC)).rsun_obs / 2.0168
    r = radii()[:988]
    assert (levels[:988][r >= radius] == 0).all()
    assert (levels[:988][r < radius] > 0).all()


def test_levels_follow_the_published_recipe():
    gauss = np.zeros((1024, 1024), np.float32)
    fields = np.array([0, 10, -10, 100, -100, 271, 5000, -5000], np.float32)
    gauss[300, 508:516] = fields
    out = np.empty((1024, 1024), np.uint8)
    paint_field(gauss, 470.0, 0.0, np.uint64(1), out)
    s = np.clip(400 * fields / (abs(fields) + 30.0) ** 0.75, -1500, 1500)
    expected = np.maximum((253 * (s + 1500) / 3000 + 0.5).astype(int), 1)
    np.testing.assert_array_equal(out[1023 - 300, 508:516], expected)
    assert out[1023 - 300, 508] == 127
    assert (out.max(), out[out > 0].min()) == (253, 1)


def test_north_is_up(monkeypatch):
    # At the time of the real EUV frames, the renderer does not rotate the real magnetogram.
    minute = datetime(2014, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(solar_state, "regions", lambda _: ())
    levels = gray_levels(minute, PERFECT, seed=1)[::-1].astype(float)
    real = magnetogram()
    # The rendered disk is slightly larger than the real one.
    zoom = real.radius * 2.0168 / solar_state.observe(minute).rsun_obs
    inner = np.rint(real.column + np.arange(-59.5, 60) * zoom).astype(int)
    field = np.clip(real.gauss[np.ix_(inner, inner)], -200, 200)
    seen = levels[452:572, 452:572]
    assert np.corrcoef(seen.ravel(), field.ravel())[0, 1] > 0.3
    assert abs(np.corrcoef(seen.ravel(), field[::-1].ravel())[0, 1]) < 0.2


@pytest.mark.parametrize(("quicklook", "last"), [(False, 286), (True, 363)])
def test_label_is_at_the_real_position(quicklook, last):
    image = decoded(render_hmi(NOON, Condition(quicklook_label=quicklook)))[..., 0]
    corner = image[988:, :400] > 128
    corner[radii()[988:, :400] < 484] = False
    rows, columns = np.nonzero(corner)
    assert rows.min() + 988 >= 992
    assert rows.max() + 988 <= 1007
    assert columns.min() == 15
    assert last - 6 <= columns.max() <= last


def test_black_frame_is_a_small_file():
    data = render_hmi(NOON, Condition(black=True))
    assert 15_000 < len(data) < 30_000
    assert decoded(data).max() == 0


def test_levels_are_the_same_on_every_machine():
    # The hash must be equal on all machines. Change it only if the rendering changes.
    levels = gray_levels(NOON, PERFECT, seed=7)
    assert hashlib.sha256(levels.tobytes()).hexdigest()[:16] == "c627185b354dacb1"
