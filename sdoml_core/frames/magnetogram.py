"""Convert between gray levels of the HMI image catalog, gauss, and stored values.

This module needs only NumPy, so readers of shards need neither a JPEG decoder nor a compiler.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FIELD_RANGE: Final = 300.0
"""Field in gauss that is stored as 1 with ``SDOML_HMI_VALUES=gauss``. −300 G would be stored as 0,
but the catalog saturates at +271 and −264 G, so no field is stored as 0. The value 0 means no
data."""

_STRENGTH = 400.0
_SOFTENING = 30.0
_POWER = 0.75
_CLIP = 1500.0
_STEPS = 253.0

# With u = (|B| + 30)^(1/4), the rendering rule is the quartic 400·u⁴ − |s|·u³ − 12000 = 0.
_ROOTS = np.linspace(_SOFTENING**0.25, (_SOFTENING + 272) ** 0.25, 1024)
_TARGETS = _STRENGTH * (_ROOTS**4 - _SOFTENING) / _ROOTS**3


def gauss_to_level(gauss: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Convert a field in gauss to the catalog's level in [0, 1] (gray/255, before rounding).

    The JSOC's rendering rule, before rounding, is s = 400·B / (abs(B) + 30)^0.75 clipped to ±1500,
    and gray = 253·(s + 1500)/3000. A field is drawn with at least gray 1, because 0 means off the
    disk.

    Parameters
    ----------
    gauss
        Line-of-sight field in gauss, of any shape.
    """
    field = np.asarray(gauss, np.float64)
    stretched = _STRENGTH * field / (np.abs(field) + _SOFTENING) ** _POWER
    gray = _STEPS * (np.clip(stretched, -_CLIP, _CLIP) + _CLIP) / (2 * _CLIP)
    return np.maximum(gray, 1.0) / 255


def level_to_gauss(level: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Convert a level in [0, 1] to a field in gauss: the inverse of `gauss_to_level`.

    Parameters
    ----------
    level
        Any shape; gray/255.

    Returns
    -------
    Gauss, within 1e-9 of the exact inverse. The rendering saturates at +271 and −264 G, so all
    levels above gray 253 give +271 G. Level 0 is off the disk or under the label, and gives NaN.
    """
    level = np.asarray(level, np.float64)
    stretched = np.clip(level * 255 / _STEPS * (2 * _CLIP) - _CLIP, -_CLIP, _CLIP)
    target = np.abs(stretched)
    root = np.interp(target, _TARGETS, _ROOTS)
    # Newton's method: one step is accurate to 1e-9 G, two steps to the last digits.
    for _ in range(2):
        square = root * root
        cube = square * root
        slope = 4 * _STRENGTH * cube - 3 * target * square
        root -= ((_STRENGTH * root - target) * cube - _STRENGTH * _SOFTENING) / slope
    field = np.copysign((root * root) ** 2 - _SOFTENING, stretched)
    return np.where(level == 0, np.nan, field)


def gauss_to_stored(
    gauss: NDArray[np.floating[Any]], *, field_range: float = FIELD_RANGE
) -> NDArray[np.float64]:
    """Convert fields to stored values: 1/2 + B / (2·range), and 0 for NaN."""
    field = np.asarray(gauss, np.float64)
    return np.where(np.isnan(field), 0.0, 0.5 + field / (2 * field_range))


def stored_to_gauss(
    stored: NDArray[np.floating[Any]],
    out: NDArray[np.float32],
    *,
    field_range: float = FIELD_RANGE,
) -> None:
    """Convert stored values to gauss in `out`, with NaN for 0: the inverse of `gauss_to_stored`.

    Parameters
    ----------
    stored
        Any shape, in [0, 1].
    out
        float32, of the same shape. It may be the stored values themselves.
    field_range
        ``constant`` of the channel in the index.
    """
    absent = stored == 0
    np.subtract(stored, 0.5, out=out, dtype=np.float32)
    np.multiply(out, np.float32(2 * field_range), out=out)
    out[absent] = np.nan


def mixed_limb(levels: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return a mask of the pixels that are off the disk or mix the disk with the black sky.

    The mean level of a mixed pixel does not represent a mean field. It would be converted to a
    field between −30 and −264 G. The limb is measured from the levels. Along each row and column,
    the disk ends where the level drops below half the level that corresponds to zero field.

    Parameters
    ----------
    levels
        float32 (n, n).

    Returns
    -------
    bool (n, n). All False if no disk of roughly the common size is found.
    """
    side = levels.shape[0]
    bright = levels > 0.25
    row = _chords(bright)
    column = _chords(np.ascontiguousarray(bright.T))
    area = (row[1] + column[1]) / 2
    radius = math.sqrt(area / math.pi)
    if not 0.36 * side < radius < 0.45 * side:
        return np.zeros(levels.shape, np.bool_)
    # Half the diagonal of a pixel, plus one JPEG pixel for the bilinear interpolation of the warp.
    inside = radius - 0.75 - 1.2 * side / 1024
    x = np.square(np.arange(side, dtype=np.float32) - np.float32(row[0]))
    y = np.square(np.arange(side, dtype=np.float32) - np.float32(column[0]))
    beyond: NDArray[np.bool_] = x > (np.float32(inside * inside) - y)[:, None]
    return beyond


def _chords(bright: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the mean midpoint, weighted by length, and the total length of the bright chords.

    A chord extends from the first to the last bright pixel of a row.
    """
    lines = bright[bright.any(axis=1)]
    start = lines.argmax(axis=1)
    length = lines.shape[1] - lines[:, ::-1].argmax(axis=1) - start
    total = int(length.sum())
    middle = start + (length - 1) / 2
    return float((middle * length).sum()) / max(total, 1), total
