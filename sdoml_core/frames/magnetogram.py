"""Gray levels of the HMI image catalog to gauss, and back.

NumPy alone, so that readers of shards need neither a JPEG decoder nor a compiler.
"""

import numpy as np
from numpy.typing import NDArray

_STRENGTH = 400.0
_SOFTENING = 30.0
_POWER = 0.75
_CLIP = 1500.0
_STEPS = 253.0

# With u = (|B| + 30)^(1/4) the rendering rule is the quartic 400·u⁴ − |s|·u³ − 12000 = 0.
_ROOTS = np.linspace(_SOFTENING**0.25, (_SOFTENING + 272) ** 0.25, 1024)
_TARGETS = _STRENGTH * (_ROOTS**4 - _SOFTENING) / _ROOTS**3


def gauss_to_level(gauss: NDArray[np.floating]) -> NDArray[np.float64]:
    """The level in [0, 1] (gray/255, before rounding) that the catalog gives a field.

    s = 400·B / (abs(B) + 30)^0.75 clipped to ±1500, gray = 253·(s + 1500)/3000: the JSOC's
    rendering rule, before it rounds. No field gets less than gray 1: 0 is off the disk.

    Parameters
    ----------
    gauss
        Any shape; line-of-sight field in gauss.
    """
    field = np.asarray(gauss, np.float64)
    stretched = _STRENGTH * field / (np.abs(field) + _SOFTENING) ** _POWER
    gray = _STEPS * (np.clip(stretched, -_CLIP, _CLIP) + _CLIP) / (2 * _CLIP)
    return np.maximum(gray, 1.0) / 255


def level_to_gauss(level: NDArray[np.floating]) -> NDArray[np.float64]:
    """The field that a level in [0, 1] stands for: the inverse of `gauss_to_level`.

    Parameters
    ----------
    level
        Any shape; gray/255.

    Returns
    -------
    Gauss, within 1e-9 of the exact inverse. The rendering saturates at +271 and −264 G: all
    levels beyond gray 253 give the former. Level 0 is off the disk, or label, and gives NaN.
    """
    level = np.asarray(level, np.float64)
    stretched = np.clip(level * 255 / _STEPS * (2 * _CLIP) - _CLIP, -_CLIP, _CLIP)
    target = np.abs(stretched)
    root = np.interp(target, _TARGETS, _ROOTS)
    for _ in range(2):  # Newton; from the table, one step comes within 1e-9 G
        square = root * root
        cube = square * root
        slope = 4 * _STRENGTH * cube - 3 * target * square
        root -= ((_STRENGTH * root - target) * cube - _STRENGTH * _SOFTENING) / slope
    field = np.copysign((root * root) ** 2 - _SOFTENING, stretched)
    return np.where(level == 0, np.nan, field)
