"""Active regions: the pattern of their loops and fields, and where it lands on the Sun.

As all kernels that paint the Sun, see `surface`, these are exact to the last bit.
"""

import numpy as np
from numba import njit

from sdoml_demo.render.noise import value_noise
from sdoml_demo.render.planes import CENTRE

PATTERN = 160
"""Pixels across the pattern of an active region, six times its size."""
PATTERN_STEP = 6 / (PATTERN - 1)


@njit(nogil=True, cache=True, error_model="numpy")
def draw_region(seed, pattern):  # type: ignore[no-untyped-def]
    """The pattern of an active region, which it keeps for life.

    Parameters
    ----------
    seed
        uint64.
    pattern
        Out, float32 (2, `PATTERN`, `PATTERN`), over −3 … 3 region sizes west and north: field
        and hot plasma, both about 1 at most.
    """
    for row in range(PATTERN):
        b = row * PATTERN_STEP - 3
        for column in range(PATTERN):
            a = column * PATTERN_STEP - 3
            d2 = a * a + b * b
            fade = max(1 - d2 / 9, 0.0)
            fade *= fade
            patch = value_noise(seed, 2.5 * a, 2.5 * b)
            grain = value_noise(seed + np.uint64(1), 9 * a, 9 * b)
            lead = (a - 0.7) * (a - 0.7) * 1.6 + (b - 0.1) * (b - 0.1) * 2.0
            trail = (a + 0.8) * (a + 0.8) * 0.9 + (b + 0.15) * (b + 0.15) * 1.4
            lead, trail = 1 / (1 + lead) ** 2, 0.9 / (1 + trail) ** 2
            # one spot leads; what trails is broken up
            clumps = patch * grain * 3
            spot = lead * lead
            loose = 1.6 * lead * (1 - lead) * clumps * clumps - trail * clumps * clumps
            pattern[0, row, column] = np.float32((spot + loose) * fade)
            # arcades: rings around the neutral line, broken up by noise
            arc = np.sqrt(a * a * 0.8 + b * b * 1.7) * 3.2 + 1.6 * patch
            wave = abs(arc - np.int32(arc) - 0.5) * 2
            core = 1 / (1 + 0.9 * a * a + 1.8 * b * b) ** 2
            pattern[1, row, column] = np.float32(
                core * (0.35 + 0.5 * wave + 0.9 * patch * grain) * fade
            )


@njit(nogil=True, cache=True, error_model="numpy")
def paint_region(radius, region, pattern, field, glow):  # type: ignore[no-untyped-def]
    """Add an active region to planes.

    Parameters
    ----------
    radius
        Of the solar disk, in pixels.
    region
        A row of numbers from `sky.Region.numbers`.
    pattern
        From `draw_region`.
    field, glow
        float32 (1024, 1024), south up: gauss along the line of sight, and how much hot plasma
        stands there (about 1 in the core of a region).
    """
    size = field.shape[0]
    scale, strength = region[9], region[10]
    reach = 3.0 * scale * radius
    row0 = max(0, int(CENTRE + region[1] * radius - reach))
    row1 = min(size, int(CENTRE + region[1] * radius + reach) + 2)
    column0 = max(0, int(CENTRE + region[0] * radius - reach))
    column1 = min(size, int(CENTRE + region[0] * radius + reach) + 2)
    steps = 1 / (scale * PATTERN_STEP)
    middle = 3 / PATTERN_STEP
    for row in range(row0, row1):
        y = (row - CENTRE) / radius
        for column in range(column0, column1):
            x = (column - CENTRE) / radius
            r2 = x * x + y * y
            if r2 >= 1:
                continue
            z = np.sqrt(1 - r2)
            a = (x * region[3] + y * region[4] + z * region[5]) * steps + middle
            b = (x * region[6] + y * region[7] + z * region[8]) * steps + middle
            if a < 0 or b < 0 or a >= PATTERN - 1 or b >= PATTERN - 1:
                continue
            i, j = np.uint32(a), np.uint32(b)
            p, q = a - i, b - j
            for layer in range(2):
                low = pattern[layer, j, i] * (1 - p) + pattern[layer, j, i + 1] * p
                high = pattern[layer, j + 1, i] * (1 - p) + pattern[layer, j + 1, i + 1] * p
                value = low * (1 - q) + high * q
                if layer == 0:
                    field[row, column] += np.float32(value * strength * z)
                else:
                    glow[row, column] += np.float32(value * abs(strength) / 800)
