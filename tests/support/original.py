"""The original SDOML-lite's math, implemented independently with scikit-image.

This implementation uses complete intermediate images and shares no code with `sdoml_core`. Tests
compare the kernels with it.
"""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce
from skimage.transform import AffineTransform, warp

SIZE = 1024


def _warp_about_center(image: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    offset = SIZE / 2 - scale * SIZE / 2
    grow = AffineTransform(scale=(scale, scale), translation=(offset, offset))
    return warp(image, grow.inverse, order=1, mode="edge", preserve_range=True)


def original_aia(
    image: NDArray[np.floating],
    *,
    exposure: float,
    rsun_obs: float,
    degradation: float,
    resolution: int,
) -> NDArray[np.float32]:
    x = np.asarray(image, np.float64).copy()
    mask = np.where(x > 0, 1.0, 0.0)
    x[~(x > 0)] = 0
    scale = 976 / rsun_obs
    warped = _warp_about_center(x, scale) * _warp_about_center(mask, scale)
    warped /= max(exposure, 0.01) * degradation
    block = SIZE // resolution
    return np.flipud(block_reduce(warped, (block, block), np.sum).astype(np.float32))


def original_hmi(
    rgb: NDArray[np.uint8], *, rsun_obs: float, scale: float, resolution: int
) -> NDArray[np.float32]:
    gray = rgb.astype(np.float64).mean(axis=2)
    gray[988:, :400] = 0
    warped = _warp_about_center(gray / 255, scale * 976 / rsun_obs)
    block = SIZE // resolution
    return block_reduce(warped, (block, block), np.mean).astype(np.float32)


def worst_relative_difference(result: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """Return the largest relative difference where the reference exceeds 1e-3 of its maximum."""
    result, reference = result.astype(np.float64), reference.astype(np.float64)
    bright = reference > 1e-3 * reference.max()
    return float((np.abs(result - reference)[bright] / reference[bright]).max())
