"""HMI frames: from the bytes of an image catalogue JPG to float32 blocks; grey to gauss and back.

The catalogue renders the line-of-sight magnetogram north up on the full-disk grid shrunk to
1024² (2.0168″ per pixel), grey 0 off the disk, with a white label in the lower left.
"""

import io
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.errors import (
    BlankFrameError,
    CorruptFrameError,
    NotAnImageError,
    TruncatedFrameError,
    WrongFrameError,
)
from sdoml_core.geometry import PIXEL, SIZE, TARGET_RADIUS
from sdoml_core.resample import mean_grey_blocks

GEOMETRIC_SCALE = 2.0168 / PIXEL
"""Pixel size of the catalogue's JPGs over that of AIA's synoptic frames."""

LABEL = (988, 400)
"""The label lies in rows from the first number on, columns before the second."""

SMALLEST_FILE = 30_000
"""Bytes; an all-black frame has about 21,000, the Sun about 385,000."""

_STRENGTH = 400.0
_SOFTENING = 30.0
_POWER = 0.75
_CLIP = 1500.0
_STEPS = 253.0

# With u = (|B| + 30)^(1/4) the rendering rule is the quartic 400·u⁴ − |s|·u³ − 12000 = 0.
_ROOTS = np.linspace(_SOFTENING**0.25, (_SOFTENING + 272) ** 0.25, 1024)
_TARGETS = _STRENGTH * (_ROOTS**4 - _SOFTENING) / _ROOTS**3


def decode_hmi(data: bytes) -> NDArray[np.uint8]:
    """Decode a catalogue JPG.

    Parameters
    ----------
    data
        The whole file.

    Returns
    -------
    uint8 (1024, 1024, 3), red, green, blue; row 0 is north.

    Raises
    ------
    NotAnImageError
        For empty bytes, HTML, or what is no JPEG.
    TruncatedFrameError
        Where the bytes end before the image does.
    CorruptFrameError
        Where the JPEG decoder gives up.
    WrongFrameError
        For an image that is not 1024×1024.
    BlankFrameError
        For an image under 30,000 bytes, or black all over.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        _refuse_start(data)
    width, height = _dimensions(data)
    if (width, height) != (SIZE, SIZE):
        raise WrongFrameError(f"{width}×{height} pixels, not {SIZE}×{SIZE}")
    if not data.rstrip(b"\0\r\n").endswith(b"\xff\xd9"):
        raise TruncatedFrameError(f"{len(data)} bytes without the marker that ends a JPEG")
    if len(data) < SMALLEST_FILE:
        raise BlankFrameError(f"{len(data)} bytes, fewer than {SMALLEST_FILE}: a black image")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            rgb = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptFrameError(f"the JPEG cannot be decoded: {error}") from error
    if not rgb.any():
        raise BlankFrameError("black all over")
    return rgb


def process_hmi(
    rgb: NDArray[np.uint8], *, resolution: int, rsun_obs: float, scale: float
) -> NDArray[np.float32]:
    """Mask the label, scale the Sun to its common size, take block means.

    The mean of red, green and blue, divided by 255, warped by s = scale · 976″ / RSUN_OBS, as
    SDOML-lite does. The mask covers the label in both its lengths.

    Parameters
    ----------
    rgb
        uint8 (1024, 1024, 3).
    resolution
        n, a divisor of 1024.
    rsun_obs
        Angular radius of the Sun in arcseconds.
    scale
        `GEOMETRIC_SCALE`; 0.85 is what SDOML-lite uses.

    Returns
    -------
    float32 (n, n) in [0, 1]; row 0 is north.
    """
    return mean_grey_blocks(
        np.ascontiguousarray(rgb),
        resolution=resolution,
        scale=scale * TARGET_RADIUS / rsun_obs,
        label=LABEL,
    )


def gauss_to_level(gauss: NDArray[np.floating]) -> NDArray[np.float64]:
    """The level in [0, 1] (grey/255, before rounding) that the catalogue gives a field.

    s = 400·B / (abs(B) + 30)^0.75 clipped to ±1500, grey = 253·(s + 1500)/3000: the JSOC's
    rendering rule, before it rounds. No field gets less than grey 1: 0 is off the disk.

    Parameters
    ----------
    gauss
        Any shape; line-of-sight field in gauss.
    """
    field = np.asarray(gauss, np.float64)
    stretched = _STRENGTH * field / (np.abs(field) + _SOFTENING) ** _POWER
    grey = _STEPS * (np.clip(stretched, -_CLIP, _CLIP) + _CLIP) / (2 * _CLIP)
    return np.maximum(grey, 1.0) / 255


def level_to_gauss(level: NDArray[np.floating]) -> NDArray[np.float64]:
    """The field that a level in [0, 1] stands for: the inverse of `gauss_to_level`.

    Parameters
    ----------
    level
        Any shape; grey/255.

    Returns
    -------
    Gauss, within 1e-9 of the exact inverse. The rendering saturates at +271 and −264 G: all
    levels beyond grey 253 give the former. Level 0 is off the disk, or label, and gives NaN.
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


def _refuse_start(data: bytes) -> NoReturn:
    """The fitting error for bytes that do not begin like a JPEG."""
    if not data:
        raise NotAnImageError("empty")
    if data[:512].lstrip().startswith(b"<"):
        raise NotAnImageError("an HTML or XML page, not a JPEG")
    raise NotAnImageError("not a JPEG")


def _dimensions(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header, so that no decoder sees an absurd size."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            raise CorruptFrameError(f"no JPEG marker at byte {position}")
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            return int.from_bytes(data[position + 7 : position + 9], "big"), height
        filler = marker == 0xFF
        position += 1 if filler else 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    raise TruncatedFrameError(f"{len(data)} bytes, which end before the image begins")
