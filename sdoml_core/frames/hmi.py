"""Decode the JPEG files of the HMI image catalog, and process them into float32 frames.

The catalog renders the line-of-sight magnetogram on the full-disk grid at 1024² (2.0168″ per
pixel), with north up. Pixels off the disk have gray level 0. There is a white label in the lower
left corner.
"""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.errors import BlankFrameError, CorruptFrameError, WrongFrameError
from sdoml_core.frames.field_blocks import mean_field_blocks
from sdoml_core.frames.grid import JPG_PIXEL, SIZE, TARGET_RADIUS
from sdoml_core.frames.jpeg import Blocks, Structure, read_scan, read_structure
from sdoml_core.frames.magnetogram import FIELD_RANGE, level_to_gauss
from sdoml_core.frames.resample import mean_gray_blocks

HmiValues = Literal["level", "gauss"]

LABEL = (988, 400)
"""First row of the label, and first column to the right of the label."""

SMALLEST_FILE = 30_000
"""Minimum file size in bytes. Black images have about 21,000 bytes, real ones about 385,000."""

LIMB_MARGIN = 1.5
"""Width in JPEG pixels of the zone inside the limb without field values. In this zone, rendering
and JPEG compression mix the gray of the disk with the black sky."""

LEAST_COVERAGE = 0.5
"""Fraction of a processed pixel that must be on the disk for it to have a field value."""


def decode_hmi(data: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG file from the catalog.

    Parameters
    ----------
    data
        The whole file.

    Returns
    -------
    uint8 (1024, 1024, 3): red, green and blue. Row 0 is the northernmost.

    Raises
    ------
    NotAnImageError
        If the bytes are empty, HTML, or not a JPEG file.
    TruncatedFrameError
        If the bytes end before the image is complete.
    CorruptFrameError
        If the file is inconsistent; see `sdoml_core.frames.jpeg`.
    WrongFrameError
        If the image is not 1024×1024 pixels.
    BlankFrameError
        If the file is smaller than 30,000 bytes, or the image is completely black.
    """
    return decode_checked(data)[0]


def decode_checked(
    data: bytes,
) -> tuple[NDArray[np.uint8], Structure, tuple[Blocks, ...] | None]:
    """Return the pixels, structure and blocks of a JPEG file. Errors are as in `decode_hmi`.

    If a file has no color, the three color channels are views of one array, which takes half the
    time to decode. The blocks of a progressive file are None, because its scans are not decoded.
    """
    structure = read_structure(data)
    if (structure.width, structure.height) != (SIZE, SIZE):
        raise WrongFrameError(
            f"the image is {structure.width}×{structure.height} pixels, not {SIZE}×{SIZE}"
        )
    if len(data) < SMALLEST_FILE:
        raise BlankFrameError(f"{len(data)} bytes, fewer than {SMALLEST_FILE}: a black image")
    blocks = read_scan(data, structure) if structure.baseline else None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as picture:
            if blocks is not None and not has_color(blocks):
                picture.draft("L", None)
                pixels = np.asarray(picture)
            else:
                pixels = np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptFrameError(f"the JPEG cannot be decoded: {error}") from error
    if not pixels.any():
        raise BlankFrameError("the image is completely black")
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[..., None], (*pixels.shape, 3))
    return pixels, structure, blocks


def has_color(blocks: tuple[Blocks, ...]) -> bool:
    """Return whether any chrominance coefficient of a JPEG file is not 0."""
    return any(b.mean.any() or b.energy.any() for b in blocks[1:])


def process_hmi(
    rgb: NDArray[np.uint8],
    *,
    resolution: int,
    rsun_obs: float,
    scale: float,
    values: HmiValues = "level",
    center: tuple[float, float] = (0.0, 0.0),
    whole: bool = True,
) -> NDArray[np.float32]:
    """Mask the label, scale the Sun to the common size and compute block means.

    The image is warped by s = scale · 976″ / RSUN_OBS. ``level`` is the mean of red, green and blue
    divided by 255, as in SDOML-lite. ``gauss`` converts gray levels to gauss at full resolution,
    before the warp, and averages over the part of the pixel that is on the disk. The mask covers
    both the short and the long label.

    Parameters
    ----------
    rgb
        uint8 (1024, 1024, 3).
    resolution
        n, a divisor of 1024.
    rsun_obs
        Angular radius of the Sun in arcseconds.
    scale
        Size of an HMI JPEG pixel in AIA pixels: `GEOMETRIC_SCALE`, or 0.85 as in the original.
    values
        ``level`` or ``gauss``.
    center
        Center of the disk, in columns and rows from the middle of the image. Used only for
        ``gauss``.
    whole
        Whether all of the disk is visible. If so, black pixels on the disk are strong negative
        fields, which the rendering draws with gray level 1 and JPEG compression may change to 0.
        Used only for ``gauss``.

    Returns
    -------
    float32 (n, n) in [0, 1]. Row 0 is the northernmost. For ``gauss``, the field B is stored as 1/2
    + B / (2 · `FIELD_RANGE`). The value is 0 if less than half of the pixel is on the disk.
    `sdoml_core.frames.magnetogram.stored_to_gauss` is the inverse.
    """
    factor = scale * TARGET_RADIUS / rsun_obs
    if values == "level":
        return mean_gray_blocks(rgb, resolution=resolution, scale=factor, label=LABEL)
    return mean_field_blocks(
        rgb,
        resolution=resolution,
        scale=factor,
        label=LABEL,
        table=_STORED[whole],
        disk=(
            (SIZE - 1) / 2 + center[0],
            (SIZE - 1) / 2 + center[1],
            rsun_obs / JPG_PIXEL - LIMB_MARGIN,
        ),
        least=LEAST_COVERAGE,
    )


def _stored_of_sums(*, whole: bool) -> NDArray[np.float64]:
    """Return the stored value for each sum of red, green and blue, or NaN if there is none."""
    table: NDArray[np.float64] = 0.5 + level_to_gauss(np.arange(766) / 765) / (2 * FIELD_RANGE)
    if whole:
        table[0] = table[1]
    table.flags.writeable = False
    return table


_STORED = {whole: _stored_of_sums(whole=whole) for whole in (True, False)}
