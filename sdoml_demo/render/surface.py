"""Pixel kernels: from the two real frames to the Sun of another time.

The real frames become planes in units of the solar radius: the corona's *texture* (193 Å divided
by its mean radial profile) and the magnetic field. To turn the Sun, a pixel's point on the sphere
is turned back; the longitudes around the centre of the real frames, which show the surface least
foreshortened, are repeated around the Sun four times, every second time upside down, and fade
into each other. Quarter turns need no sine. Off the limb nothing turns.

Only +, −, ×, ÷ and the square root touch pixels: IEEE 754 defines them to the last bit, and so
frames are the same on every machine. Noise comes from a counter-based generator (splitmix64).
"""

# ruff: noqa: PLR0917 (kernels take their arrays by position: numba is slow with keywords)

import numpy as np
from numba import njit

from sdoml_demo.render.noise import normal
from sdoml_demo.render.planes import CENTRE, PROFILE_STEP

TONES = 2048
"""Entries of a tone curve: texture 0 … 16 in equal steps."""
TONE_STEP = 16 / TONES


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _blend_rows(plane, row, factor, line):  # type: ignore[no-untyped-def]
    """A row of a plane between two pixel rows, times a factor."""
    j = np.uint32(row)  # unsigned: numba need not test for negative indices
    q = row - j
    for column in range(plane.shape[1]):
        value = plane[j, column] + (plane[j + 1, column] - plane[j, column]) * q
        line[column] = value * factor


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _between(line, place):  # type: ignore[no-untyped-def]
    """A line's value between two pixels."""
    i = np.uint32(place)
    return line[i] + (line[i + 1] - line[i]) * (place - i)


@njit(nogil=True, cache=True, error_model="numpy")
def _surface_row(  # type: ignore[no-untyped-def]
    plane, column, row, plane_radius, odd, y, radius, sine, cosine, lines, work, out
):
    """One row of the disk, taken from the tiles that lie around the Sun.

    Tiles reach 60° to either side of their middle, stand 90° apart and fade into each other;
    every second one is upside down, its values times ``odd``. Turning does not change a point's
    distance from the equator, so that a row comes from two rows of the plane.

    Returns the first column of the disk and the one after its last; ``out`` is set between them.
    """
    ring = np.sqrt(max(1 - y * y, 0.0))  # the sphere's half width here
    size = out.shape[0]
    first = max(0, int(CENTRE - ring * radius) + 1)
    last = min(size, int(CENTRE + ring * radius) + 1)
    # 0.999: the magnetogram ends at the limb
    scale = 0.999 * plane_radius
    _blend_rows(plane, row + y * scale, 1.0, lines[:size])
    _blend_rows(plane, row - y * scale, odd, lines[size:])
    inverse, half = 1 / radius, 0.5 * ring  # sin 30° = 1/2
    slope = 0.5 / (0.20710678118654752 * ring + 1e-12)
    for k in range(first, last):  # no branches, for vector instructions
        x = (k - CENTRE) * inverse
        z = np.sqrt(max(ring * ring - x * x, 0.0))
        u, w = x * cosine - z * sine, z * cosine + x * sine
        # quarter turns bring the point within 45° of a tile's middle
        upright = abs(u) <= abs(w)
        along = (u if w >= 0 else -u) if upright else (-w if u >= 0 else w)
        depth = abs(w) if upright else abs(u)
        across = -depth if along >= 0 else depth
        base = column if upright else column + size
        other = column + size if upright else column
        work[0, k] = base + along * scale
        work[1, k] = other + across * scale
        work[2, k] = max(abs(along) - half, 0.0) * slope
    for k in range(first, last):
        value = _between(lines, work[0, k])
        share = work[2, k]
        if share > 0:
            value += share * (_between(lines, work[1, k]) - value)
        out[k] = value
    return first, last


@njit(nogil=True, cache=True, error_model="numpy")
def turn_texture(texture, texture_radius, radius, sine, cosine, tone):  # type: ignore[no-untyped-def]
    """The coronal texture as it is seen at another time and distance.

    Parameters
    ----------
    texture, texture_radius
        As in `Planes`.
    radius
        Of the solar disk wanted, in pixels.
    sine, cosine
        Of the turn since the real frame.
    tone
        Out, float32 (1024, 1024), south up; the texture fades to 1 at the limb.
    """
    size = tone.shape[0]
    inner = size - 1.001
    lines, work, out = np.empty(2 * size), np.empty((3, size)), np.empty(size)
    for row in range(size):
        y = (row - CENTRE) / radius
        first = last = size
        if abs(y) < 1:
            first, last = _surface_row(
                texture, CENTRE, CENTRE, texture_radius, 1.0, y, radius, sine, cosine,
                lines, work, out,
            )  # fmt: skip
            for column in range(first, last):
                x = (column - CENTRE) / radius
                near = min((1 - np.sqrt(x * x + y * y)) * 16, 1.0)
                tone[row, column] = np.float32(1 + (out[column] - 1) * near)
        _blend_rows(texture, min(max(CENTRE + y * texture_radius, 0.0), inner), 1.0, lines[:size])
        for outside in range(size - last + first):
            column = outside if outside < first else outside - first + last
            x = (column - CENTRE) / radius
            place = min(max(CENTRE + x * texture_radius, 0.0), inner)
            near = min((np.sqrt(x * x + y * y) - 1) * 24, 1.0)
            tone[row, column] = np.float32(1 + (_between(lines, place) - 1) * near)


@njit(nogil=True, cache=True, error_model="numpy")
def turn_field(field, geometry, field_turn, radius, sine, cosine, gauss):  # type: ignore[no-untyped-def]
    """Add the magnetic field as it is seen at another time and distance.

    Parameters
    ----------
    field, geometry, field_turn
        As in `Planes`.
    radius, sine, cosine
        As for `turn_texture`.
    gauss
        float32 (1024, 1024), south up; the field of the active regions on entry.
    """
    fs = sine * field_turn[1] + cosine * field_turn[0]
    fc = cosine * field_turn[1] - sine * field_turn[0]
    size = gauss.shape[0]
    lines, work, out = np.empty(2 * size), np.empty((3, size)), np.empty(size)
    for row in range(size):
        y = (row - CENTRE) / radius
        if abs(y) >= 1:
            continue
        first, last = _surface_row(
            field, geometry[0], geometry[1], geometry[2], -1.0, y, radius, fs, fc, lines, work, out
        )
        for column in range(first, last):
            gauss[row, column] += np.float32(out[column])


@njit(nogil=True, cache=True, error_model="numpy")
def paint_corona(  # type: ignore[no-untyped-def]
    tone, gauss, glow, radius, profile, tones, weights, noise, seed, out
):
    """One AIA frame in sixteenths of a DN.

    Parameters
    ----------
    tone, gauss, glow
        From `turn_texture`, `turn_field` and `paint_region`.
    radius
        Of the disk in pixels.
    profile
        Intensity over distance from the centre, DN; steps of `PROFILE_STEP`.
    tones
        Brightness factor over texture; steps of `TONE_STEP`.
    weights
        Four numbers: how much magnetic network, glow and sunspots matter; and the intensity at a
        sharp limb in DN, or 0 where the corona goes on beyond it.
    noise
        Read noise in DN, photon noise in √DN, background in DN.
    seed
        uint64.
    out
        int32 (1024, 1024), south up.
    """
    network, glow_weight, spots, sharp = weights[0], weights[1], weights[2], weights[3]
    read2, photon2, background = noise[0] * noise[0], noise[1] * noise[1], noise[2]
    magnetic = network > 0 or spots > 0
    size = out.shape[1]
    deviate, distance, values = np.empty(size), np.empty(size), np.empty(size)
    inverse = 1 / radius
    for row in range(out.shape[0]):
        y2 = (row - CENTRE) * (row - CENTRE)
        # short loops, of which the compiler can make vector instructions
        for column in range(size):
            distance[column] = np.sqrt(y2 + (column - CENTRE) * (column - CENTRE)) * inverse
        for column in range(size):
            deviate[column] = normal(seed, np.uint64(row * 1024 + column))
        for column in range(size):
            r = distance[column]
            place = r * (1 / PROFILE_STEP)
            if sharp > 0 and r < 1:
                place = min(
                    place, 1 / PROFILE_STEP - 1
                )  # do not blend disk and sky: the edge below does
            index = np.uint32(place)
            level = profile[index] + (profile[index + 1] - profile[index]) * (place - index)
            step = tone[row, column] * (1 / TONE_STEP)
            entry = np.uint32(step)
            factor = tones[entry] + (tones[entry + 1] - tones[entry]) * (step - entry)
            if r < 1:
                factor += glow_weight * glow[row, column]
                if magnetic:
                    strength = abs(np.float64(gauss[row, column]))
                    factor += min(max(strength - 12.0, 0.0), 300.0) * 0.01 * network
                    factor *= 1 - min(max(strength - 450.0, 0.0) * 0.002, 0.75) * spots
            value = level * factor
            if sharp > 0 and abs(r - 1) * radius < 0.5:
                # a limb of known place: half of its height is at the radius
                edge = 0.5 + (1 - r) * radius
                value = value * edge if r < 1 else value + sharp * edge
            values[column] = value + background
        for column in range(size):
            value = values[column]
            value += np.sqrt(read2 + photon2 * value) * deviate[column]
            out[row, column] = np.int32(min(value, 16383.0) * 16 + 4096.5) - np.int32(4096)


@njit(nogil=True, cache=True, error_model="numpy")
def paint_field(gauss, radius, noise, seed, out):  # type: ignore[no-untyped-def]
    """One magnetogram as grey levels, north up, 0 off the disk.

    The levels follow the JSOC's rendering script: s = 400·B / (|B| + 30)^0.75, clipped to ±1500,
    level = int(253·(s + 1500)/3000 + 0.5), at least 1.

    Parameters
    ----------
    gauss
        From `turn_field`.
    radius
        Of the disk in pixels.
    noise
        Gauss.
    seed
        uint64.
    out
        uint8 (1024, 1024).
    """
    size = out.shape[0]
    deviate = np.empty(size)
    for row in range(size):
        y = (row - CENTRE) / radius
        chord = np.sqrt(max(1 - y * y, 0.0)) * radius
        first = max(0, int(CENTRE - chord) + 1)
        last = min(size, int(CENTRE + chord) + 1)
        out[size - 1 - row] = 0
        if abs(y) >= 1:
            continue
        for column in range(first, last):
            deviate[column] = noise * normal(seed, np.uint64(row * 1024 + column))
        for column in range(first, last):
            b = gauss[row, column] + deviate[column]
            root = np.sqrt(abs(b) + 30)
            s = 400 * b / (root * np.sqrt(root))  # (|B| + 30)^(3/4)
            s = min(max(s, -1500.0), 1500.0)
            out[size - 1 - row, column] = np.uint8(max(253 * (s + 1500) / 3000 + 0.5, 1.0))
