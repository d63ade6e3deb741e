"""Convert the real frames to the inputs of the rendering: textures, radial profiles, a field.

Only integer sums, +, −, ×, ÷ and the square root touch pixels here, element by element, so that
the results are the same on every machine. (The order in which NumPy sums floating-point numbers
depends on the processor.)
"""

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.render.active_regions import PATTERN, cut_stamp, draw_region, paint_field
from sdoml_demo.render.geometry import CENTER, SIZE, sphere_vectors
from sdoml_demo.render.real_frames import euv_image, magnetogram

PROFILE_STEP = 1 / 512
"""Step of radial profiles, in solar radii. They extend to the corners, at 1.9 radii."""
PROFILE_BINS = 1000

INNER = 0.985
"""Solar radii: the part of a real frame that shows only the surface."""

READ_NOISE = 0.29
"""DN per synoptic pixel, measured in the corners of the real frames."""

PHOTON_NOISE = {94: 0.20, 131: 0.32, 171: 0.28, 193: 0.26, 211: 0.23, 304: 0.20, 335: 0.19,
                1600: 0.09, 1700: 0.09}  # fmt: skip
"""√DN per synoptic pixel.

Measured between 1.08 and 1.15 solar radii in the real frames, where the corona is smooth. For 304,
1600 and 1700 Å, it is the DN per photon of Boerner et al. (2012) for a mean of 16 pixels.
"""

BRIGHTEST = 500.0
"""Maximum of a texture, relative to the mean of its ring."""

_DENOISED = {94: 3, 131: 2, 171: 2, 193: 2, 211: 2, 335: 3}
"""Half width of the window of the noise filter, in pixels."""

_REGIONS_2014 = (
    # (west, north, size, gauss): active regions of the real EUV frames, in solar radii
    (0.55, -0.27, 0.065, 1300.0),
    (0.28, -0.27, 0.050, 900.0),
    (0.10, -0.23, 0.060, 1100.0),
    (-0.24, -0.23, 0.070, 1000.0),
    (-0.54, -0.19, 0.035, 600.0),
    (-0.65, -0.36, 0.045, 800.0),
    (-0.26, 0.41, 0.040, -700.0),
    (0.28, 0.22, 0.040, -800.0),
)
_STAMPS = ((0.55, -0.27), (0.14, -0.24), (-0.22, -0.22), (-0.26, 0.40), (0.28, 0.22))
STAMPS = len(_STAMPS)
"""Number of active regions that are cut out of each real frame."""


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """Data from the real frame of one wavelength. They must not be changed."""

    tone: NDArray[np.float32]
    """Image divided by its radial profile, about 1 on the quiet Sun, and 1 at `INNER`; shape
    (1024, 1024), south up, the disk center at (511.5, 511.5)."""
    radius: float
    """Solar radius of that plane in pixels."""
    profile: NDArray[np.float64]
    """Median brightness of rings, 1 at the center; steps of `PROFILE_STEP`."""
    center: float
    """DN per second at the center, where the profile is 1."""
    stamps: NDArray[np.float32]
    """Brightness of active regions above the quiet Sun, in its units; shape (`STAMPS`,
    `PATTERN`, `PATTERN`)."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """The magnetic field that matches the textures. It must not be changed."""

    gauss: NDArray[np.float32]
    """Line-of-sight field, 0 off the disk; shape (1024, 1024), south up."""
    geometry: NDArray[np.float64]
    """Column and row of its center, and its radius, in pixels."""


@cache
def texture(wavelength: int) -> Texture:
    """Return the texture of a wavelength that has a real frame; computed once per process."""
    image = euv_image(wavelength)
    offsets = (np.arange(SIZE) - CENTER) / image.radius
    distance = np.sqrt(offsets[:, None] ** 2 + offsets[None, :] ** 2)
    profile = _radial_profile(image.pixels, distance)
    quiet = _look_up(profile, distance)
    pixels = _denoise(image.pixels, quiet, wavelength)
    tone = np.clip(pixels / quiet, 0.0, BRIGHTEST).astype(np.float32)
    stamps = np.empty((STAMPS, PATTERN, PATTERN), np.float32)
    for index, (west, north) in enumerate(_STAMPS):
        cut_stamp(tone, image.radius, west, north, stamps[index])
    # the edge of the disk shows emission above the limb, which would leave a ring after a rotation
    margin = np.where(distance < INNER + 0.005, np.maximum(INNER - distance, 0), 1.0)
    fade = np.minimum(margin * 16, 1.0).astype(np.float32)
    return Texture(
        tone=1 + (tone - 1) * fade,
        radius=image.radius,
        profile=profile / profile[0],
        center=float(profile[0]) / image.exposure,
        stamps=stamps,
    )


@lru_cache(maxsize=4)
def field(activity: float) -> Field:
    """Return the real magnetogram, with bipoles where the EUV frames have active regions.

    Parameters
    ----------
    activity
        Strength of the bipoles; 1 on the day of the EUV frames.

    Notes
    -----
    The magnetogram is from a quiet day in 2018, the EUV frames are from an active day in 2014. So
    its network of weak fields does not match their details. The bipoles match the bright regions.
    """
    real = magnetogram()
    gauss = real.gauss.copy()
    pattern = np.empty((PATTERN, PATTERN), np.float32)
    for index, (west, north, size, strength) in enumerate(_REGIONS_2014):
        draw_region(np.uint64(2014 + index), pattern)
        vectors = sphere_vectors(west, north)
        paint_field(real.radius, vectors, size, strength * activity, pattern, gauss)
    return Field(gauss, np.array([real.column, real.row, real.radius]))


def _denoise(
    pixels: NDArray[np.int64], quiet: NDArray[np.float64], wavelength: int
) -> NDArray[np.float64]:
    """Remove the noise of a faint frame, which would otherwise rotate with the Sun.

    This is a local Wiener filter (Lee 1980) of the difference from the quiet Sun: a pixel moves
    toward the mean of its window by the fraction of the window's variance that noise explains.
    """
    half = _DENOISED.get(wavelength)
    if half is None:
        return pixels / 16
    count = (2 * half + 1) ** 2
    level = np.rint(quiet * 16).astype(np.int64)
    excess = pixels - level
    total, squares = _box(excess, half), _box(excess * excess, half)
    mean = total / count
    variance = (count * squares - total * total) / count**2
    photon_noise = PHOTON_NOISE[wavelength]
    photons = 16 * photon_noise * photon_noise * np.maximum(level + mean, 0)
    noise = 256 * READ_NOISE * READ_NOISE + photons
    kept = np.maximum(variance - 1.3 * noise, 0) / np.maximum(variance, 1.0)
    result: NDArray[np.float64] = (level + mean + kept * (excess - mean)) / 16
    return result


def _box(pixels: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    """Sum over square windows. Edges are mirrored."""
    padded = np.pad(pixels, half, mode="reflect")
    for axis in (0, 1):
        sums = np.cumsum(padded, axis=axis)
        sums = np.insert(sums, 0, 0, axis=axis)
        high = np.take(sums, np.arange(2 * half + 1, sums.shape[axis]), axis=axis)
        low = np.take(sums, np.arange(sums.shape[axis] - 2 * half - 1), axis=axis)
        padded = high - low
    return padded


def _radial_profile(
    pixels: NDArray[np.int64], distance: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the level of the quiet Sun by distance from the center, in DN.

    It is the median of each ring, which ignores active regions, averaged over neighboring rings:
    many of them in the middle of the disk and few at the limb.
    """
    ring = np.minimum((distance / PROFILE_STEP + 0.5).astype(np.int64), PROFILE_BINS - 1).ravel()
    # a single sort, by ring and then by pixel value
    values = np.sort((ring << 32) + (pixels.ravel() + (1 << 31))) % (1 << 32) - (1 << 31)
    ends = np.cumsum(np.bincount(ring, minlength=PROFILE_BINS))
    medians = np.zeros(PROFILE_BINS, np.int64)
    start = 0
    for index, end in enumerate(ends.tolist()):
        # there are no pixels beyond the corners, so the last ring is repeated
        medians[index] = values[(start + end) // 2] if end > start else medians[index - 1]
        start = end
    result = np.empty(PROFILE_BINS)
    for index in range(PROFILE_BINS):
        radius = index * PROFILE_STEP
        reach = 12 + int(78 * max(0.0, 1 - radius / 0.25))
        from_limb = max(0.97 - radius, radius - 1.06, 0.0)  # where the profile is steep
        reach = min(reach, int(from_limb / PROFILE_STEP))
        window = medians[max(0, index - reach) : index + reach + 1]
        result[index] = int(window.sum()) / (16 * window.size)
    return np.maximum(result, 0.02)


def _look_up(profile: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    place = np.minimum(distance / PROFILE_STEP, PROFILE_BINS - 2)
    index = place.astype(np.intp)
    part = place - index
    result: NDArray[np.float64] = profile[index] * (1 - part) + profile[index + 1] * part
    return result
