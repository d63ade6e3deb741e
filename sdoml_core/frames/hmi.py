"""HMI frames: from the bytes of an image catalog JPG to float32 blocks.

The catalog renders the line-of-sight magnetogram north up on the full-disk grid shrunk to
1024² (2.0168″ per pixel), gray 0 off the disk, with a white label in the lower left.
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
from sdoml_core.frames.grid import SIZE, TARGET_RADIUS
from sdoml_core.frames.resample import mean_gray_blocks

LABEL = (988, 400)
"""The label lies in rows from the first number on, columns before the second."""

SMALLEST_FILE = 30_000
"""Bytes; an all-black frame has about 21,000, the Sun about 385,000."""


def decode_hmi(data: bytes) -> NDArray[np.uint8]:
    """Decode a catalog JPG.

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
    return mean_gray_blocks(
        np.ascontiguousarray(rgb),
        resolution=resolution,
        scale=scale * TARGET_RADIUS / rsun_obs,
        label=LABEL,
    )


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
