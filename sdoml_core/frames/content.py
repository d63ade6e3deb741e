"""Measure the content of a raw AIA frame from its pixels, before any processing.

The measurement takes 0.6 ms per frame. It uses cells, which are means of 8×8 pixels (4×4 for the
sharp limb of 1600 Å and 1700 Å), to suppress noise. All distances are in solar radii, so the limits
are valid at any resolution.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sdoml_core.frames.grid import SIZE
from sdoml_core.frames.limb import measure_disk, reduce_blocks
from sdoml_core.frames.pointing import Pointing

SHARP = frozenset({1600, 1700})
"""Wavelengths (Å) with a sharp limb. In other wavelengths, the corona extends above the limb."""

THUMBNAIL = 32
"""Pixels along each side of the thumbnail used to compare frames."""

_CELLS = 128
_DARK = 0.03
"""Brightness below which a cell is dark, on a scale from the background (0) to the bright disk (1).
The darkest cells of coronal holes have values of 0.04 to 0.2 (in real frames from 2014 and 2018),
and those of a shadow have 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """Measures of a raw frame."""

    center: tuple[float, float] | None
    """Offset of the center of the limb from the center in the header, along columns and rows of the
    raw frame, in solar radii. None if there is no limb."""

    radius: float | None
    """Radius of the limb, in solar radii."""

    scatter: float
    """Scatter of the limb around the fitted circle, in solar radii; infinite without a limb."""

    level: float
    """Median of the disk, in the unit of the image."""

    visible: float
    """Fraction of the disk that is not dark; pixels without data are ignored."""

    sky: float
    """Median of the sky beyond 1.15 solar radii, relative to the bright quarter of the disk (its
    75th percentile)."""

    thumbnail: NDArray[np.float32]
    """(32, 32) means of the raw image. NaN for cells without data."""

    @property
    def offset(self) -> float:
        """Distance of the limb's center from the center in the header; infinite without a limb."""
        return float("inf") if self.center is None else float(np.hypot(*self.center))


def measure_content(
    image: NDArray[np.float32], *, pointing: Pointing, rsun_obs: float, wavelength: int
) -> Content:
    """Measure the disk of a raw frame at the position given by its header.

    Parameters
    ----------
    image
        float32 (1024, 1024), with NaN for pixels without data.
    pointing
        Pointing from the header.
    rsun_obs
        Angular radius of the Sun in arcseconds.
    wavelength
        Wavelength in ångström. It determines how sharp the limb is.
    """
    radius = rsun_obs / pointing.pixel
    fine = reduce_blocks(image, 4)
    cells = reduce_blocks(fine, 2)
    step = 4 if wavelength in SHARP else 8
    found = measure_disk(
        fine if step == 4 else cells,
        center=((pointing.x + 0.5) / step - 0.5, (pointing.y + 0.5) / step - 0.5),
        radius=radius / step,
    )
    on, off = _regions(round(pointing.x, 1), round(pointing.y, 1), round(radius, 1))
    disk, sky = cells[on], cells[off]
    disk, sky = disk[~np.isnan(disk)], sky[~np.isnan(sky)]
    if not disk.size or not sky.size:
        disk, sky = np.zeros(1), np.zeros(1)
    ranks = [disk.size // 2, disk.size * 3 // 4]
    level, bright = (float(value) for value in np.partition(disk, ranks)[ranks])
    ranks = [sky.size // 20, sky.size // 2]
    darkest, background = (float(value) for value in np.partition(sky, ranks)[ranks])
    unit = radius / step
    return Content(
        center=None if found is None else (found.x / unit, found.y / unit),
        radius=None if found is None else found.radius / unit,
        scatter=float("inf") if found is None else found.scatter / unit,
        level=level,
        visible=float((disk - darkest > _DARK * (bright - darkest)).mean()),
        sky=background / bright if bright > 0 else float("inf"),
        thumbnail=reduce_blocks(cells, _CELLS // THUMBNAIL).astype(np.float32),
    )


@lru_cache(maxsize=64)
def _regions(x: float, y: float, radius: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the cells inside 0.95 solar radii, and the cells outside 1.15 solar radii."""
    step = SIZE // _CELLS
    row, column = np.mgrid[:_CELLS, :_CELLS] * step + (step - 1) / 2
    distance = np.hypot(column - x, row - y) / radius
    on, off = distance < 0.95, distance > 1.15
    for region in (on, off):
        region.flags.writeable = False  # threads share the array
    return on, off


@lru_cache(maxsize=1)
def _disk_of_thumbnails() -> NDArray[np.bool_]:
    """Return the pixels of a thumbnail that are on the disk on every date."""
    row, column = np.mgrid[:THUMBNAIL, :THUMBNAIL] - (THUMBNAIL - 1) / 2
    return np.asarray(np.hypot(row, column) < 0.35 * THUMBNAIL)


def correlate(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the correlation of the logarithms of two thumbnails on the disk, from −1 to 1.

    Because of the logarithms, a flare does not outweigh the rest of the Sun. Return 0 if the
    correlation is undefined.
    """
    disk = _disk_of_thumbnails()
    a, b = one[disk], other[disk]
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < disk.sum() / 4:
        return 0.0
    first, second = _logarithm(a[known]), _logarithm(b[known])
    spread = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / spread if spread > 0 else 0.0


def _logarithm(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Clip values below 1% of their median, and return the logarithms minus their mean."""
    floor = max(0.01 * float(np.median(values)), 1e-6)
    logs = np.log(np.maximum(values, floor).astype(np.float64))
    return np.asarray(logs - logs.mean())
