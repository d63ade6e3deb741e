"""Active regions: the patterns of their fields and of their hot plasma, painted on the Sun.

These kernels give the same bits on every machine; see `surface`.
"""

# ruff: noqa: PLR0917 (kernels take their arguments by position: numba is slow with keywords)

import numpy as np
from numba import njit

from sdoml_demo.render.geometry import CENTER
from sdoml_demo.render.noise import value_noise

PATTERN = 160
"""Width in pixels of the pattern of an active region, which spans six times the region's size."""
PATTERN_STEP = 6 / (PATTERN - 1)

STAMP_SIZE = 0.057
"""Size, in solar radii, of the active regions that are cut out of real frames."""


@njit(nogil=True, cache=True, error_model="numpy")
def draw_region(seed, pattern):  # type: ignore[no-untyped-def]
    """Draw the magnetic field of an active region.

    Parameters
    ----------
    seed
        uint64.
    pattern
        Output, float32 (`PATTERN`, `PATTERN`): −3 … 3 region sizes west and north; about 1 at
        most.
    """
    for row in range(PATTERN):
        b = row * PATTERN_STEP - 3
        for column in range(PATTERN):
            a = column * PATTERN_STEP - 3
            fade = max(1 - (a * a + b * b) / 9, 0.0)
            fade *= fade
            patch = value_noise(seed, 2.5 * a, 2.5 * b)
            grain = value_noise(seed + np.uint64(1), 9 * a, 9 * b)
            lead = (a - 0.7) * (a - 0.7) * 1.6 + (b - 0.1) * (b - 0.1) * 2.0
            trail = (a + 0.8) * (a + 0.8) * 0.9 + (b + 0.15) * (b + 0.15) * 1.4
            lead, trail = 1 / (1 + lead) ** 2, 0.9 / (1 + trail) ** 2
            # the leading polarity is one spot; the trailing polarity is broken up
            clumps = patch * grain * 3
            spot = lead * lead
            loose = 1.6 * lead * (1 - lead) * clumps * clumps - trail * clumps * clumps
            pattern[row, column] = np.float32((spot + loose) * fade)


@njit(nogil=True, cache=True, error_model="numpy")
def cut_stamp(tone, radius, west, north, stamp):  # type: ignore[no-untyped-def]
    """Cut an active region out of a texture: how much brighter it is than the quiet Sun.

    Parameters
    ----------
    tone, radius
        See `textures.Texture`.
    west, north
        Position of the region relative to the disk center, in solar radii.
    stamp
        Output, float32 (`PATTERN`, `PATTERN`): −3 … 3 times `STAMP_SIZE` west and north on the
        Sun, fading to 0 at a distance of 3.
    """
    # correct the foreshortening of the region
    ring = np.sqrt(1 - north * north)
    narrow = np.sqrt(1 - west * west - north * north) / ring * STAMP_SIZE
    low = ring * STAMP_SIZE
    for row in range(PATTERN):
        b = row * PATTERN_STEP - 3
        y = CENTER + (north + b * low) * radius
        j = int(y)
        q = y - j
        for column in range(PATTERN):
            a = column * PATTERN_STEP - 3
            x = CENTER + (west + a * narrow) * radius
            i = int(x)
            p = x - i
            lower = tone[j, i] * (1 - p) + tone[j, i + 1] * p
            upper = tone[j + 1, i] * (1 - p) + tone[j + 1, i + 1] * p
            value = lower * (1 - q) + upper * q
            fade = max(1 - (a * a + b * b) / 9, 0.0)
            stamp[row, column] = np.float32(max(value - 1.25, 0.0) * fade * fade)


@njit(nogil=True, cache=True, error_model="numpy")
def paint_field(radius, vectors, size, strength, pattern, gauss):  # type: ignore[no-untyped-def]
    """Add the line-of-sight component of the magnetic field of an active region.

    Parameters
    ----------
    radius
        Radius of the solar disk, in pixels.
    vectors
        Result of `geometry.sphere_vectors` for the region's center: the directions to it, west and
        north.
    size
        Size of the region, in solar radii.
    strength
        Field in gauss where the pattern is 1.
    pattern
        Result of `draw_region`.
    gauss
        float32 (1024, 1024), south up. The field is added to it.
    """
    row0, row1, column0, column1 = _box(gauss.shape[0], radius, vectors, 3.0 * size)
    steps = 1 / (size * PATTERN_STEP)
    middle = 3 / PATTERN_STEP
    for row in range(row0, row1):
        y = (row - CENTER) / radius
        for column in range(column0, column1):
            x = (column - CENTER) / radius
            r2 = x * x + y * y
            if r2 >= 1:
                continue
            z = np.sqrt(1 - r2)
            a = (x * vectors[3] + y * vectors[4] + z * vectors[5]) * steps + middle
            b = (x * vectors[6] + y * vectors[7] + z * vectors[8]) * steps + middle
            gauss[row, column] += np.float32(_sample(pattern, a, b) * strength * z)


@njit(nogil=True, cache=True, error_model="numpy")
def paint_plasma(radius, vectors, size, factor, stamp, tone):  # type: ignore[no-untyped-def]
    """Add the hot plasma of an active region.

    Plasma extends above the surface. So a region at the limb is at least half as wide as at the
    disk center, and part of it is visible even if its footpoints are behind the limb.

    Parameters
    ----------
    radius, vectors, size
        See `paint_field`.
    factor
        Factor for the brightness of the stamp.
    stamp
        Result of `cut_stamp`.
    tone
        float32 (1024, 1024), south up. The plasma is added to it.
    """
    row0, row1, column0, column1 = _box(tone.shape[0], radius, vectors, 3.0 * size)
    visible = min(max((vectors[2] + 0.17) * 3, 0.0), 1.0)
    across = 1 / (max(vectors[3], 0.5) * size * PATTERN_STEP)
    along = 1 / (max(vectors[7], 0.5) * size * PATTERN_STEP)
    if vectors[7] < 0:
        along = -1 / (max(-vectors[7], 0.5) * size * PATTERN_STEP)
    middle = 3 / PATTERN_STEP
    for row in range(row0, row1):
        b = ((row - CENTER) / radius - vectors[1]) * along + middle
        for column in range(column0, column1):
            a = ((column - CENTER) / radius - vectors[0]) * across + middle
            tone[row, column] += np.float32(_sample(stamp, a, b) * factor * visible)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _box(extent, radius, vectors, reach):  # type: ignore[no-untyped-def]
    """Return the rows and columns within a distance, in solar radii, of a region."""
    row0 = max(0, int(CENTER + (vectors[1] - reach) * radius))
    row1 = min(extent, int(CENTER + (vectors[1] + reach) * radius) + 2)
    column0 = max(0, int(CENTER + (vectors[0] - reach) * radius))
    column1 = min(extent, int(CENTER + (vectors[0] + reach) * radius) + 2)
    return row0, row1, column0, column1


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _sample(pattern, a, b):  # type: ignore[no-untyped-def]
    """Interpolate a pattern between four of its pixels. Returns 0 outside."""
    if a < 0 or b < 0 or a >= PATTERN - 1 or b >= PATTERN - 1:
        return 0.0
    i, j = np.uint32(a), np.uint32(b)
    p, q = a - i, b - j
    low = pattern[j, i] * (1 - p) + pattern[j, i + 1] * p
    high = pattern[j + 1, i] * (1 - p) + pattern[j + 1, i + 1] * p
    return low * (1 - q) + high * q
