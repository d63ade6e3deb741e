"""The measured disk matches the drawn disk, and frames without a disk are recognized."""

import numpy as np
import pytest
from numpy.typing import NDArray

from sdoml_core.frames import limb
from sdoml_core.frames.grid import DISK_RADIUS
from sdoml_core.frames.limb import measure_disk


def drawn(side: int, x: float, y: float, radius: float) -> NDArray[np.float32]:
    """Draw a limb-darkened, anti-aliased disk with noise and a bright region on the limb."""
    fine = 4
    rows, columns = np.mgrid[: side * fine, : side * fine]
    middle = (side - 1) / 2
    right = (columns + 0.5) / fine - 0.5 - middle - x
    down = (rows + 0.5) / fine - 0.5 - middle - y
    distance = np.hypot(right, down) / radius
    disk = np.where(distance < 1, 0.4 + 0.6 * np.sqrt(np.clip(1 - distance**2, 0, 1)), 0)
    disk += 3 * np.exp(-(((right - radius) / (0.05 * side)) ** 2 + (down / (0.05 * side)) ** 2))
    frame = disk.reshape(side, fine, side, fine).mean((1, 3))
    return (frame + np.random.default_rng(1).random((side, side)) * 0.05).astype(np.float32)


@pytest.mark.parametrize("side", [64, 512])
@pytest.mark.parametrize(("x", "y", "scale"), [(0, 0, 1), (0.013, -0.007, 1), (0, 0.01, 1.03)])
def test_disk_is_found_where_it_was_drawn(side: int, x: float, y: float, scale: float) -> None:
    radius = DISK_RADIUS * side * scale
    disk = measure_disk(drawn(side, x * side, y * side, radius))
    assert disk is not None
    assert disk.x == pytest.approx(x * side, abs=0.15)
    assert disk.y == pytest.approx(y * side, abs=0.15)
    assert disk.radius == pytest.approx(radius, abs=max(0.003 * radius, 0.2))


@pytest.mark.parametrize(
    "frame", [np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)], ids=["dark", "flat"]
)
def test_frame_without_edges_has_no_disk(frame: NDArray[np.float32]) -> None:
    assert measure_disk(frame) is None


def test_outlier_rays_are_ignored() -> None:
    angles = np.arange(360) * (2 * np.pi / 360)
    radius = 50 + np.clip(0.2 * np.random.default_rng(4).standard_cauchy(360), -10, 10)
    x, y = radius * np.cos(angles), radius * np.sin(angles)
    disk = limb._circle(x, y, np.ones(360, np.bool_))
    assert disk is not None
    assert np.hypot(disk.x, disk.y) < 0.1
    assert disk.radius == pytest.approx(50, abs=0.02)
    assert 270 < disk.rays < 310
    few = np.arange(360) % 5 == 0
    assert limb._circle(x, y, few) is None


def test_no_circle_is_fitted_to_noise() -> None:
    noise = np.random.default_rng(0).random((512, 512)).astype(np.float32)
    disk = measure_disk(noise)
    assert disk is None or disk.scatter > 0.05 * disk.radius
