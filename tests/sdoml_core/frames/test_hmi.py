"""HMI frames: reasons for rejection, the label, and the conversion of gray levels to gauss."""

import io
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.errors import (
    BlankFrameError,
    CorruptFrameError,
    FrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.magnetogram import (
    FIELD_RANGE,
    gauss_to_level,
    gauss_to_stored,
    level_to_gauss,
    mixed_limb,
    stored_to_gauss,
)
from sdoml_core.frames.resample import Warp, sum_blocks
from sdoml_core.loader.reading.units import convert

Frame = NDArray[np.float32]

ROOT = Path(__file__).parents[3]
RECONSTRUCTED = (ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg").read_bytes()
MAGNETOGRAM = ROOT / "sdoml_demo/data/hmi.M_720s_nrt.20180820_090000_TAI.fits"


def jpeg(pixels: NDArray[np.uint8], **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_decoded_pixels_match_pillow() -> None:
    rgb = decode_hmi(RECONSTRUCTED)
    assert rgb.shape == (1024, 1024, 3)
    assert rgb.dtype == np.uint8
    with Image.open(io.BytesIO(RECONSTRUCTED)) as picture:
        np.testing.assert_array_equal(rgb, np.asarray(picture))


def test_gray_jpeg_has_three_equal_channels() -> None:
    rgb = decode_hmi(jpeg(noise((1024, 1024)), quality=95))
    assert rgb.shape == (1024, 1024, 3)
    np.testing.assert_array_equal(rgb[..., 0], rgb[..., 2])


def test_progressive_jpeg_is_decoded() -> None:
    with Image.open(io.BytesIO(RECONSTRUCTED)) as picture:
        pixels = np.asarray(picture)
    rgb = decode_hmi(jpeg(pixels, quality=95, progressive=True))
    assert np.abs(rgb.astype(int) - pixels).mean() < 3


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", NotAnImageError),
        (b"<html>404 Not Found</html>", NotAnImageError),
        (b"SIMPLE  =                    T", NotAnImageError),
        (b"\x89PNG\r\n\x1a\n" + bytes(50_000), NotAnImageError),
        (RECONSTRUCTED[:3], TruncatedFrameError),
        (RECONSTRUCTED[:100], TruncatedFrameError),
        (RECONSTRUCTED[:200_000], TruncatedFrameError),
        (RECONSTRUCTED[:-2], TruncatedFrameError),
        (RECONSTRUCTED[:200_000] + bytes(100_000), TruncatedFrameError),
        (jpeg(noise((512, 512, 3)), quality=95), WrongFrameError),
        (jpeg(noise((1024, 1000, 3)), quality=95), WrongFrameError),
        (jpeg(np.zeros((1024, 1024, 3), np.uint8), quality=95), BlankFrameError),
    ],
)
def test_bytes_that_are_not_a_frame_are_rejected(data: bytes, error: type[FrameError]) -> None:
    with pytest.raises(error):
        decode_hmi(data)


def test_black_image_of_any_size_is_blank() -> None:
    data = jpeg(np.zeros((1024, 1024, 3), np.uint8), quality=95, comment=b"x" * 40_000)
    assert len(data) > 30_000
    with pytest.raises(BlankFrameError, match="black"):
        decode_hmi(data)


def test_padding_after_the_end_marker_is_accepted() -> None:
    np.testing.assert_array_equal(decode_hmi(RECONSTRUCTED + bytes(512)), decode_hmi(RECONSTRUCTED))


def test_segment_without_a_following_marker_is_corrupt() -> None:
    second = 4 + int.from_bytes(RECONSTRUCTED[4:6], "big")
    assert RECONSTRUCTED[second] == 0xFF
    damaged = RECONSTRUCTED[:second] + b"\0" + RECONSTRUCTED[second + 1 :]
    with pytest.raises(CorruptFrameError, match=f"no JPEG marker at byte {second}"):
        decode_hmi(damaged)


def test_impossible_image_size_is_rejected_before_decoding() -> None:
    at = RECONSTRUCTED.index(b"\xff\xc0") + 5
    bomb = RECONSTRUCTED[:at] + b"\xff\xff\xff\xff" + RECONSTRUCTED[at + 4 :]
    with pytest.raises(WrongFrameError, match="65535×65535"):
        decode_hmi(bomb)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_damaged_files_raise_only_frame_errors(data: st.DataObject) -> None:
    damaged = bytearray(RECONSTRUCTED)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.integers(0, 700), st.integers(0, len(damaged) - 1)))
        damaged[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        assert decode_hmi(bytes(damaged)).shape == (1024, 1024, 3)
    except FrameError:
        return


def test_damaged_huffman_tables_are_rejected() -> None:
    at = RECONSTRUCTED.index(b"\xff\xc4") + 4
    with pytest.raises(CorruptFrameError):
        decode_hmi(RECONSTRUCTED[:at] + b"\xff" * 20 + RECONSTRUCTED[at + 20 :])


@pytest.mark.parametrize("width", [287, 364])
def test_short_and_long_labels_are_masked(width: int) -> None:
    disk = decode_hmi(RECONSTRUCTED).copy()
    disk[988:, :400] = 0
    labeled = disk.copy()
    labeled[992:1008, 15:width] = 255
    bare, masked = (
        process_hmi(rgb, resolution=512, rsun_obs=948.4, scale=GEOMETRIC_SCALE)
        for rgb in (disk, labeled)
    )
    np.testing.assert_array_equal(bare, masked)


def test_label_mask_does_not_reach_the_disk() -> None:
    # 484 px is the largest radius, in January
    assert np.hypot(988 - 511.5, 400 - 511.5) > 484


def test_processed_frames_are_between_0_and_1() -> None:
    white = np.full((1024, 1024, 3), 255, np.uint8)
    result = process_hmi(white, resolution=256, rsun_obs=960.0, scale=GEOMETRIC_SCALE)
    assert result.max() == 1.0
    assert result.min() >= 0.0


def test_levels_follow_the_rendering_rule() -> None:
    field = np.linspace(-250, 265, 2001)
    gray = 255 * gauss_to_level(field)
    stretched = 400 * field / (np.abs(field) + 30) ** 0.75
    np.testing.assert_allclose(gray, 253 * (stretched + 1500) / 3000, rtol=1e-12)
    assert int(255 * gauss_to_level(np.array(0.0)) + 0.5) == 127
    np.testing.assert_allclose(255 * gauss_to_level(np.array([-5000.0, 5000.0])), [1, 253])
    assert (np.diff(gray) > 0).all()


@settings(deadline=None)
@given(st.floats(-264.4, 270.9))
def test_conversion_between_levels_and_gauss_is_invertible(field: float) -> None:
    assert level_to_gauss(gauss_to_level(np.array(field))) == pytest.approx(field, abs=1e-9)


def test_saturated_and_off_disk_levels_convert_to_limits_and_nan() -> None:
    levels = np.array([[0.0, 1 / 255], [253 / 255, 1.0]])
    field = level_to_gauss(levels)
    assert field.shape == (2, 2)
    assert np.isnan(field[0, 0])
    assert field[0, 1] == pytest.approx(-264.449, abs=1e-3)
    assert field[1, 0] == field[1, 1] == pytest.approx(270.975, abs=1e-3)


def test_reconstructed_jpg_inverts_to_the_real_magnetogram() -> None:
    with astropy_fits.open(MAGNETOGRAM) as hdus:
        truth = np.asarray(hdus[1].data)[::-1]  # FITS rows run from south to north
    field = level_to_gauss(decode_hmi(RECONSTRUCTED).mean(axis=2) / 255)
    y, x = np.mgrid[:1024, :1024] - 511.5
    disk = np.isfinite(truth) & (np.hypot(x, y) < 0.99 * 470)
    error = np.abs(field - truth)[disk & (np.abs(truth) < 200)]
    median, high = np.percentile(error, [50, 95])
    rms = np.sqrt((error**2).mean())
    print(f"|B| < 200 G: median {median:.2f} G, 95% {high:.2f} G, rms {rms:.2f} G")
    assert median < 0.7
    assert high < 2.2
    assert rms < 1.5
    # The only errors are rounding and JPEG. One level is 0.4 G near zero and 2.5 G near 200 G.
    assert abs((field - truth)[disk & (np.abs(truth) < 200)].mean()) < 0.1


def field_free(sigma: float = 6.0) -> bytes:
    """Render a Sun with no magnetic field, only instrument noise."""
    row, column = np.mgrid[:1024, :1024] - 511.5
    gauss = np.random.default_rng(0).normal(0, sigma, (1024, 1024))
    levels = np.rint(255 * gauss_to_level(gauss))
    on_disk = np.hypot(row, column) < RSUN_OBS / 2.0168
    return jpeg(np.where(on_disk, levels, 0).astype(np.uint8), quality=95)


RSUN_OBS = 948.4


def processed(data: bytes, resolution: int, values: Literal["level", "gauss"]) -> Frame:
    return process_hmi(
        decode_hmi(data),
        resolution=resolution,
        rsun_obs=RSUN_OBS,
        scale=GEOMETRIC_SCALE,
        values=values,
    )


def gauss_of(data: bytes, resolution: int, values: Literal["level", "gauss"]) -> Frame:
    """Convert pixels to gauss as the loader does with `units="gauss"`."""
    pixels = processed(data, resolution, values)
    transform, constant = ("field", FIELD_RANGE) if values == "gauss" else ("linear", 1.0)
    convert(pixels, "HMI_M", "gauss", {"HMI_M": {"transform": transform, "constant": constant}})
    return pixels


@pytest.mark.parametrize("values", ["level", "gauss"])
@pytest.mark.parametrize("resolution", [1024, 512, 256, 64])
def test_field_free_sun_has_no_flux_and_no_ring(
    resolution: int, values: Literal["level", "gauss"]
) -> None:
    field = gauss_of(field_free(), resolution, values)
    known = np.isfinite(field)
    y, x = np.mgrid[:resolution, :resolution] - (resolution - 1) / 2
    radius = np.hypot(x, y) / (406.67 * resolution / 1024)
    assert not known[radius > 1].any()
    assert known[radius < 1 - 2.5 / (0.397 * resolution)].all()
    pixel_noise = 6.0 / max(1024 / resolution * 0.8, 1)
    noise = pixel_noise / np.sqrt(known.sum())
    assert abs(float(field[known].mean())) < 5 * noise + 0.05
    assert float(np.abs(field[known]).mean()) < pixel_noise
    assert float(np.abs(field[known]).max()) < 7 * pixel_noise


def test_averaging_levels_creates_a_ring() -> None:
    levels = processed(field_free(), 512, "level")
    field = level_to_gauss(levels)
    assert np.nanmin(field) < -200
    assert np.nanmean(field) < -3


@pytest.mark.parametrize("resolution", [512, 256])
def test_fields_are_averaged_instead_of_levels(resolution: int) -> None:
    """The reference is resampled in gauss.

    Averaged levels are too weak where opposite fields share a pixel.
    """
    with astropy_fits.open(MAGNETOGRAM) as hdus:
        truth = np.asarray(hdus[1].data, np.float32)[::-1]
    # Shifted above 0, so that the same kernel applies.
    clipped = np.clip(np.nan_to_num(truth), -264.4, 270.9) + 300
    warp = Warp(GEOMETRIC_SCALE * 976 / RSUN_OBS)
    block = (1024 // resolution) ** 2
    whole = sum_blocks(
        np.ascontiguousarray(clipped[::-1], np.float32),
        resolution=resolution,
        warp=warp,
        divisor=block,
        complete=True,
    )
    y, x = np.mgrid[:resolution, :resolution] - (resolution - 1) / 2
    disk = np.hypot(x, y) < 0.95 * 406.67 * resolution / 1024
    errors = {}
    for values in ("level", "gauss"):
        error = (gauss_of(RECONSTRUCTED, resolution, values) - (whole - 300))[disk]
        known = np.isfinite(error)
        assert (~known).sum() <= (3 if values == "level" else 0)
        errors[values] = float(np.sqrt(np.mean(error[known] ** 2)))
    print(f"rms error at {resolution}: {errors}")
    assert errors["gauss"] < 1.0
    assert errors["gauss"] < errors["level"]


def test_stored_fields_round_trip() -> None:
    field = np.array([-264.4, -1.0, 0.0, 270.9, np.nan])
    stored = gauss_to_stored(field).astype(np.float32)
    assert stored[-1] == 0
    assert (stored[:-1] > 0).all()
    out = np.empty(5, np.float32)
    stored_to_gauss(stored, out)
    np.testing.assert_allclose(out, field, atol=1e-4)


def test_frame_without_a_disk_has_no_limb() -> None:
    assert not mixed_limb(np.full((64, 64), 0.5, np.float32)).any()
    assert not mixed_limb(np.zeros((64, 64), np.float32)).any()


@pytest.mark.parametrize("scale", [GEOMETRIC_SCALE, 0.85])
def test_limb_is_found_in_levels_at_any_scale(scale: float) -> None:
    rgb = decode_hmi(RECONSTRUCTED)
    levels = process_hmi(rgb, resolution=512, rsun_obs=RSUN_OBS, scale=scale)
    inside = ~mixed_limb(levels)
    radius = np.sqrt(inside.sum() / np.pi)
    assert radius == pytest.approx(203.33 * scale / GEOMETRIC_SCALE - 1.35, abs=0.3)
    assert level_to_gauss(levels[inside]).min() > -264
