"""The resampling kernels: NaN pixels, bit-identical results, flux, and parallel threads."""

import hashlib
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.frames.resample import Warp, mean_gray_blocks, sum_blocks

Image = NDArray[np.float32]


def image_of(seed: int = 0) -> Image:
    random = np.random.default_rng(seed)
    return random.normal(30, 40, (1024, 1024)).astype(np.float32)


def sums(image: Image, resolution: int = 512, scale: float = 1.0291) -> Image:
    complete = not bool(np.isnan(image).any())
    return sum_blocks(
        image, resolution=resolution, warp=Warp(scale), divisor=1.3, complete=complete
    )


def test_kernels_agree_on_images_without_nan() -> None:
    image = image_of()
    for resolution in (1024, 512, 64):
        keywords = {"resolution": resolution, "warp": Warp(1.0291), "divisor": 1.3}
        np.testing.assert_allclose(
            sum_blocks(image, complete=False, **keywords),
            sum_blocks(image, complete=True, **keywords),
            rtol=1e-6,
        )


@pytest.mark.parametrize("resolution", [1024, 512, 256])
def test_nan_cells_do_not_change_a_flat_image(resolution: int) -> None:
    whole = np.full((1024, 1024), 7.5, np.float32)
    holed = whole.copy()
    holed[500:504, 300:304] = np.nan
    holed[0, 0] = holed[1023, 1023] = holed[1023, 17] = np.nan
    result = sums(holed, resolution)
    expected = sums(whole, resolution)
    touched = result == 0  # output pixels whose input is entirely within the hole
    assert touched.sum() <= 16
    if resolution <= 256:
        assert not touched.any()
    np.testing.assert_allclose(result[~touched], expected[~touched], rtol=1e-6)


def test_nan_pixel_does_not_affect_neighbors() -> None:
    image = image_of(1)
    holed = image.copy()
    holed[400:404, 600:604] = np.nan
    result, expected = sums(holed), sums(image)
    assert np.isfinite(result).all()
    differs = ~np.isclose(result, expected, rtol=1e-5)
    rows, columns = np.nonzero(differs)
    # 4 input pixels affect 2.06 output pixels and their neighbors
    assert np.ptp(rows) <= 3
    assert np.ptp(columns) <= 3
    row = (1023 - (512 + (401.5 - 512) * 1.0291)) / 2
    column = (512 + (601.5 - 512) * 1.0291) / 2
    assert abs(rows.mean() - row) < 1
    assert abs(columns.mean() - column) < 1


def test_nan_pixel_has_no_weight() -> None:
    image = image_of(2) + 200
    holed = image.copy()
    random = np.random.default_rng(3)
    holed[random.random(image.shape) < 0.02] = np.nan
    result, expected = sums(holed, 256), sums(image, 256)
    assert result.mean() == pytest.approx(expected.mean(), rel=2e-4)


def test_all_nan_image_becomes_zeros() -> None:
    np.testing.assert_array_equal(sums(np.full((1024, 1024), np.nan, np.float32)), 0)


@pytest.mark.parametrize("scale", [1.0, 1.01, 1.0343])
@pytest.mark.parametrize("resolution", [1024, 512, 128])
def test_smooth_image_keeps_its_flux(resolution: int, scale: float) -> None:
    y, x = np.mgrid[:1024, :1024]
    image = np.exp(-((x - 480.3) ** 2 + (y - 570.9) ** 2) / (2 * 60**2)).astype(np.float32) + 1e-30
    total = sum_blocks(
        image.astype(np.float32),
        resolution=resolution,
        warp=Warp(scale),
        divisor=1.0,
        complete=True,
    ).sum(dtype=np.float64)
    assert total == pytest.approx(image.sum(dtype=np.float64) * scale**2, rel=1e-4)


def test_row_0_is_north() -> None:
    image = np.zeros((1024, 1024), np.float32)
    image[900:910, 200:210] = 100  # FITS row 0 is south, so this is in the northeast
    row, column = np.unravel_index(sums(image).argmax(), (512, 512))
    assert row < 100
    assert column < 150


def fingerprint() -> str:
    image = image_of(9)
    holed = image.copy()
    holed[10:20, 30:70] = np.nan
    rgb = np.random.default_rng(9).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    digest = hashlib.sha256()
    for resolution in (1024, 512):
        digest.update(sums(image, resolution).tobytes())
        digest.update(sums(holed, resolution).tobytes())
        digest.update(
            mean_gray_blocks(rgb, resolution=resolution, scale=0.8561, label=(988, 400)).tobytes()
        )
    return digest.hexdigest()


@pytest.mark.slow
def test_results_are_bit_identical_between_threads_and_processes() -> None:
    alone = fingerprint()
    with ThreadPoolExecutor(4) as pool:
        together = set(pool.map(lambda _: fingerprint(), range(4)))
    assert together == {alone}
    program = (
        f"import runpy; print(runpy.run_path({__file__!r}, run_name='other')['fingerprint']())"
    )
    other = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == alone


def test_kernels_release_the_gil() -> None:
    """Another Python thread makes progress while a frame is resampled."""
    image = image_of()
    sums(image, 1024)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(10)  # no other thread would run for 10 s if the lock were not released
    try:
        ticks = []
        stop = threading.Event()

        def tick() -> None:
            while not stop.is_set():
                ticks.append(time.perf_counter())
                time.sleep(0.0005)

        ticker = threading.Thread(target=tick)
        ticker.start()
        begun = time.perf_counter()
        for _ in range(20):
            sums(image, 1024)
        ended = time.perf_counter()
        stop.set()
        ticker.join()
    finally:
        sys.setswitchinterval(switch)
    assert sum(begun < moment < ended for moment in ticks) > 20


def test_only_the_label_is_masked() -> None:
    rgb = np.full((1024, 1024, 3), 255, np.uint8)
    result = mean_gray_blocks(rgb, resolution=1024, scale=1.0, label=(988, 400))
    assert (result[988:, :400] == 0).all()
    assert (result[:988] == 1).all()
    assert (result[:, 400:] == 1).all()
