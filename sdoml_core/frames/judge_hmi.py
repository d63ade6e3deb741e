"""Judge whether an HMI image is a full-disk magnetogram: good, flagged, doubtful or rejected.

JPEG has no checksum, and the catalog's files have no header, so only the image itself can be
checked. An image is rejected only if it cannot be a magnetogram from the catalog. Signs of damage
that a good file might also have are *doubts*. A doubtful file is fetched a second time, and the
frame is accepted if both downloads have the same bytes. `docs/calibration.md` derives each
limit.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import BlankFrameError, CorruptFrameError, FrameError, WrongFrameError
from sdoml_core.frames.grid import JPG_PIXEL, SIZE, TARGET_RADIUS
from sdoml_core.frames.hmi import LABEL, decode_checked, has_color
from sdoml_core.frames.jpeg import Blocks
from sdoml_core.frames.limb import Disk, measure_disk

ZERO_FIELD: Final = 127
"""Gray level of zero field."""

COLORED: Final = (24, 0.005)
"""Largest difference between two color channels in a gray image with JPEG quality 95, and the
fraction of the pixels that may exceed it. In a color magnetogram, more than half exceed it."""

DARK: Final = 8
"""Gray level up to which a pixel is considered black."""

SKY: Final = (24, 0.005)
"""Maximum gray level of sky pixels, and the fraction of sky pixels that may exceed it."""

LEAST_VISIBLE: Final = 0.5
"""Minimum visible fraction of the disk. An image that shows less is blank."""

WHOLE_DISK: Final = 0.95
"""Visible fraction of the disk below which an image is flagged. Umbrae with negative polarity are
also black. They cover at most 1.4% of the disk in rendered images."""

LIMB_VISIBLE: Final = 0.9
"""Minimum visible fraction of the disk for judging the limb."""

MAX_SECTOR_LEVEL: Final = 25.0
"""Maximum difference between the median of a sector and zero field, in gray levels (10 G). On the
Sun, one polarity never fills half of a sector. A continuum image differs by 50 to 100."""

LEAST_SPREAD: Final = 1.5
"""Minimum spread of the gray levels on the disk (0.6 G). Instrument noise alone exceeds 5."""

MAX_SCATTER: Final = 0.02
"""Maximum scatter of the limb around the fitted circle, in solar radii."""

MAX_OFFSET: Final = 0.03
"""Maximum distance of the disk from the middle, in solar radii (14 pixels)."""

FLAG_OFFSET: Final = 0.006
"""Distance above which an image is flagged, in solar radii (2.8 pixels): five times the largest
known offset in the catalog."""

MAX_RADIUS_ERROR: Final = 0.01
"""Maximum error of the radius, relative to the ephemeris. An image from a month earlier or later
differs by up to this amount."""

FLAG_RADIUS_ERROR: Final = 0.003
"""Error of the radius above which an image is flagged, relative to the ephemeris: six times the
error of real images."""

ISOLATED: Final = (6.0, 100)
"""A block is doubtful if its largest coefficient is more than the first number times that of every
block around it, and also exceeds the second number. In real and rendered images, the largest ratio
is 2 to 4.5."""

_QUICKLOOK_COLUMNS: Final = slice(300, 400)
"""Columns that are covered only by the longer label, "Quick-Look Magnetogram"."""

_STEP = 4
_RINGS = (0.0, 0.55, 0.78, 0.95)
_SECTORS = 12
_SKY, _NONE = _SECTORS, _SECTORS + 1


@dataclass(frozen=True, slots=True, eq=False)
class HmiFrame:
    """A usable image from the catalog, and its measures."""

    rgb: NDArray[np.uint8]
    """Shape (1024, 1024, 3). Row 0 is the northernmost."""

    disk: Disk | None
    """Measured disk, in pixels of the image. None if too little of the limb is visible."""

    visible: float
    """Fraction of the disk that is not black."""

    level: float
    """Median of the disk, in [0, 1]."""

    provisional: bool
    """Whether the label says that the image is a quick-look version."""

    flags: tuple[str, ...]
    """Names from `sdoml_core.frames.flags.FLAGS`."""

    doubt: str | None
    """Sign of damage that a good file might also have; None if there is none."""

    @property
    def center(self) -> tuple[float, float]:
        """Offset of the disk center from the middle, in columns and rows; 0 if not measured."""
        return (0.0, 0.0) if self.disk is None else (self.disk.x, self.disk.y)

    def measures(self, *, resolution: int, rsun_obs: float, scale: float) -> dict[str, float]:
        """Return the measures as columns of the frame table, in pixels of the processed frame.

        Parameters
        ----------
        resolution, rsun_obs, scale
            As in `sdoml_core.frames.hmi.process_hmi`.
        """
        found = {"visible": self.visible, "level": self.level}
        if self.disk is not None:
            factor = scale * TARGET_RADIUS / rsun_obs
            block = SIZE // resolution
            # The warp scales about pixel 512, which is half a pixel from the center.
            found |= {
                "center_x": (factor * (self.disk.x - 0.5) + 0.5) / block,
                "center_y": (factor * (self.disk.y - 0.5) + 0.5) / block,
                "radius": factor * self.disk.radius / block,
            }
        return found


def inspect_hmi(data: bytes, *, rsun_obs: float) -> HmiFrame:
    """Decode a JPEG file from the catalog, and judge the image.

    Parameters
    ----------
    data
        The whole file.
    rsun_obs
        Angular radius of the Sun from the ephemeris, in arcseconds.

    Raises
    ------
    FrameError
        If the file is damaged or is not a full-disk magnetogram. The message gives the reason.
    """
    rgb, _, blocks = decode_checked(data)
    radius = rsun_obs / JPG_PIXEL
    if _colored(rgb, blocks):
        raise WrongFrameError("the image is in color; the catalog's magnetograms are gray")
    gray = rgb[..., 1]
    sectors, sky = _count_levels(gray, _regions(round(radius, 1)))
    bright = float(sky[SKY[0] + 1 :].sum() / sky.sum())
    if bright > SKY[1]:
        raise WrongFrameError(f"{bright:.1%} of the sky is not black")
    disk = sectors.sum(axis=0)
    visible = float(disk[DARK + 1 :].sum() / disk.sum())
    if visible < LEAST_VISIBLE:
        raise BlankFrameError(f"{visible:.0%} of the disk is not black")
    _check_field(sectors)
    measured = (
        measure_disk(gray.astype(np.float64), radius=radius) if visible >= LIMB_VISIBLE else None
    )
    if visible >= LIMB_VISIBLE:
        flaw = _limb_flaw(measured, radius)
        if flaw is not None:
            raise flaw
    provisional = bool((gray[LABEL[0] :, _QUICKLOOK_COLUMNS] > 128).any())
    found = {
        "provisional": provisional,
        "off_center": measured is not None and measured.offset > FLAG_OFFSET * radius,
        "odd_radius": measured is not None
        and abs(measured.radius / radius - 1) > FLAG_RADIUS_ERROR,
        "partial_disk": visible < WHOLE_DISK,
    }
    return HmiFrame(
        rgb=rgb,
        disk=measured,
        visible=visible,
        level=_quantile(disk, 0.5) / 255,
        provisional=provisional,
        flags=tuple(name for name, holds in found.items() if holds),
        doubt=next(_doubts(blocks, radius), None),
    )


def _colored(rgb: NDArray[np.uint8], blocks: tuple[Blocks, ...] | None) -> bool:
    """Return whether the color channels differ by more than JPEG compression can explain."""
    if blocks is not None and not has_color(blocks):
        return False
    red, green, blue = (rgb[::2, ::2, n].astype(np.int16) for n in range(3))
    limit, fraction = COLORED
    differs = (np.abs(red - green) > limit) | (np.abs(blue - green) > limit)
    return float(differs.mean()) > fraction


def _count_levels(
    gray: NDArray[np.uint8], regions: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count the gray levels of every fourth pixel: per sector (12, 256), and in the sky (256,)."""
    counts = np.bincount(
        (regions + gray[::_STEP, ::_STEP]).ravel(), minlength=256 * (_SECTORS + 2)
    ).reshape(-1, 256)
    return counts[:_SECTORS], counts[_SKY]


def _quantile(counts: NDArray[np.intp], fraction: float) -> float:
    """Return a quantile of counted gray levels, interpolated like `numpy.quantile`."""
    ends = np.cumsum(counts)
    rank = fraction * (int(ends[-1]) - 1)
    low = int(rank)
    lower, upper = (int(np.searchsorted(ends, n, side="right")) for n in (low, math.ceil(rank)))
    return lower + (upper - lower) * (rank - low)


def _check_field(sectors: NDArray[np.intp]) -> None:
    """Reject a disk that is not gray on average or has no structure.

    Raises
    ------
    WrongFrameError
        If the image is not a magnetogram.
    """
    for counts in sectors:
        median = _quantile(counts, 0.5)
        if median > DARK and abs(median - ZERO_FIELD) > MAX_SECTOR_LEVEL:
            raise WrongFrameError(
                f"the disk has a gray level of {median:.0f} in a sector, not about {ZERO_FIELD} "
                "(zero field): not a magnetogram"
            )
    visible = sectors.sum(axis=0)
    visible[: DARK + 1] = 0
    if (_quantile(visible, 0.84) - _quantile(visible, 0.16)) / 2 < LEAST_SPREAD:
        raise WrongFrameError("the disk has no structure: not a magnetogram")


def _limb_flaw(disk: Disk | None, radius: float) -> FrameError | None:
    if disk is None or disk.scatter > MAX_SCATTER * radius:
        return CorruptFrameError("no solar disk: no circle fits the limb")
    if disk.offset > MAX_OFFSET * radius:
        return WrongFrameError(
            f"the disk is {disk.offset:.1f} pixels from the middle "
            f"({disk.x:+.1f} right, {disk.y:+.1f} down)"
        )
    if abs(disk.radius / radius - 1) > MAX_RADIUS_ERROR:
        return WrongFrameError(
            f"the disk has a radius of {disk.radius:.1f} pixels, but {radius:.1f} on that date"
        )
    return None


def _doubts(blocks: tuple[Blocks, ...] | None, radius: float) -> Iterator[str]:
    """Find signs of damage in the block statistics of the file."""
    if blocks is None:
        yield "a progressive JPEG, which cannot be checked to its end"
        return
    on, off, label = _block_regions(round(radius, 1))
    light = blocks[0]
    if (light.mean[off] != -1024).any() or light.energy[off].any():
        yield "the sky is not exactly black"
    for part in blocks[1:]:
        rows = label.shape[0] // part.mean.shape[0]
        outside = ~label[::rows, ::rows][: part.mean.shape[0], : part.mean.shape[1]]
        colored = (part.mean != 0) | (part.energy != 0)
        share = float(colored[outside].mean())
        if 0 < share < 0.01:
            yield "some blocks have a color"
    around = _largest_neighbor(light.energy)
    isolated = light.energy > np.maximum(ISOLATED[0] * around, ISOLATED[1])
    if (isolated & on).any():
        yield "a block is unlike those around it"


def _largest_neighbor(energy: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the largest value among the eight blocks around each block."""
    rows, columns = energy.shape
    padded = np.pad(energy, 1)
    around = np.zeros_like(energy)
    for row in range(3):
        for column in range(3):
            if (row, column) != (1, 1):
                shifted = padded[row : row + rows, column : column + columns]
                np.maximum(around, shifted, out=around)
    return around


@lru_cache(maxsize=64)
def _regions(radius: float) -> NDArray[np.intp]:
    """Return 256 times the region of every fourth pixel: a sector, the sky, or none."""
    middle = (SIZE - 1) / 2
    row, column = np.mgrid[:SIZE:_STEP, :SIZE:_STEP]
    distance = np.hypot(column - middle, row - middle) / radius
    ring = np.digitize(distance, _RINGS[1:-1])
    quadrant = 2 * (row > middle) + (column > middle)
    label = (row >= LABEL[0]) & (column < LABEL[1])
    regions = np.where(distance < _RINGS[-1], 4 * ring + quadrant, _NONE)
    regions[(distance > 1.03) & ~label] = _SKY
    regions *= 256
    regions.flags.writeable = False  # threads share the array
    return regions


@lru_cache(maxsize=64)
def _block_regions(radius: float) -> tuple[NDArray[np.bool_], ...]:
    """Return masks of the 8×8 blocks on the disk, in the sky, and under the label."""
    row, column = np.mgrid[: SIZE // 8, : SIZE // 8] * 8 + 3.5
    distance = np.hypot(column - (SIZE - 1) / 2, row - (SIZE - 1) / 2)
    # Use whole blocks of 16 pixels, because color is stored at half the resolution.
    label = (row >= LABEL[0] // 16 * 16) & (column < LABEL[1] + 8)
    on = distance < 0.9 * radius
    off = (distance > radius * (1 + MAX_OFFSET) + 8) & ~label
    for region in (on, off, label):
        region.flags.writeable = False
    return on, off, label
