"""HMI catalog images: the magnetogram in gray levels, as the JSOC's script renders it."""

import io
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_demo.absences import Condition
from sdoml_demo.render import solar_state
from sdoml_demo.render.geometry import SIZE
from sdoml_demo.render.label_font import draw
from sdoml_demo.render.sun import line_of_sight_field
from sdoml_demo.render.surface import paint_field

PIXEL_SCALE = 4 * 0.5042
"""Arcsec per pixel: four pixels of the camera."""

_NOISE = 6.0  # gauss, in a 1024-pixel image
_LABEL_ROWS = slice(992, 1008)
_LABEL_START = 15
_LABEL_WIDTH = {"Magnetogram": 272, "Quick-Look Magnetogram": 349}
"""Pixels, as in real images: up to column 286 and 363."""


def gray_levels(minute: datetime, condition: Condition, *, seed: int) -> NDArray[np.uint8]:
    """Render the image before compression: uint8, shape (1024, 1024), north up.

    Parameters
    ----------
    minute
        Minute in the file name, as if it were UTC.
    condition
        Result of `absences.condition`.
    seed
        Seed of the noise.
    """
    out = np.zeros((SIZE, SIZE), np.uint8)
    if condition.black:
        return out
    radius = solar_state.observe(minute).rsun_obs / PIXEL_SCALE
    gauss = line_of_sight_field(minute, radius)
    paint_field(gauss, radius, _NOISE, np.uint64(seed), out)
    kind = "Quick-Look Magnetogram" if condition.quicklook_label else "Magnetogram"
    text = f"SDO/HMI {kind}: {minute:%Y%m%d_%H%M%S}"
    height = _LABEL_ROWS.stop - _LABEL_ROWS.start
    width = _LABEL_WIDTH[kind]
    label = out[_LABEL_ROWS, _LABEL_START : _LABEL_START + width]
    label[draw(text, width=width, height=height)] = 255
    return out


def render_hmi(minute: datetime, condition: Condition) -> bytes:
    """Render a complete file, as the archive would serve it: RGB JPEG of quality 95.

    The pixels before compression are the same on every machine. The bytes are the same for the
    same build of Pillow and its JPEG library.
    """
    name = f"{minute:%Y%m%d_%H%M%S}_M_1k.jpg"
    gray = gray_levels(minute, condition, seed=solar_state.digest("noise", name))
    return _jpeg(Image.fromarray(gray))


def shrink(data: bytes) -> bytes:
    """Return the image at half the size, which the real catalog has under another name."""
    with Image.open(io.BytesIO(data)) as image:
        return _jpeg(image.reduce(2))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=95)
    return file.getvalue()
