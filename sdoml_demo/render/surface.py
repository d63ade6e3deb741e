"""Pixel kernels that render the Sun of another time from the real frames.

The real frames become planes in units of the solar radius: for each wavelength a *texture* (the
image divided by its radial profile), and the magnetic field. To rotate the Sun, the
point of the sphere that a pixel shows is rotated back. The central longitudes of the real frames,
which are least foreshortened, are repeated four times around the Sun, every second time upside
down, with blended edges. Quarter turns need no sine. Above the limb, the corona of the real frame
stays in place. It is blended with its mirror image as the Sun rotates, and is brighter above bright
regions.

Only +, −, ×, ÷ and the square root touch pixels. IEEE 754 defines them to the last bit, so frames
are the same on every machine. Noise comes from a counter-based generator (splitmix64).
"""

# ruff: noqa: PLR0917 (kernels take their arrays by position: numba is slow with keywords)

import numpy as np
from numba import njit

from sdoml_demo.render.geometry import CENTER
from sdoml_demo.render.noise import normal
from sdoml_demo.render.textures import INNER, PROFILE_STEP

KNEE = 1.6
"""Tone above which a pixel counts as part of an active region, not of the quiet Sun."""

EDGE = 2048
"""Number of positions around the limb."""
EDGE_REACH = 12
"""Positions on either side over which the brightness above the limb is smoothed."""


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _blend_rows(plane, row, factor, line):  # type: ignore[no-untyped-def]
    """Interpolate a row of a plane between two pixel rows, and multiply it by a factor."""
    j = np.uint32(row)  # unsigned: numba need not test for negative indices
    q = row - j
    for column in range(plane.shape[1]):
        value = plane[j, column] + (plane[j + 1, column] - plane[j, column]) * q
        line[column] = value * factor


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _between(line, place):  # type: ignore[no-untyped-def]
    """Interpolate a line between two pixels."""
    i = np.uint32(place)
    return line[i] + (line[i + 1] - line[i]) * (place - i)


@njit(nogil=True, cache=True, error_model="numpy")
def _surface_row(  # type: ignore[no-untyped-def]
    plane, column, row, plane_radius, odd, y, radius, flat, inner, sine, cosine, lines, work, out
):
    """Fill one row of the disk from the tiles around the Sun.

    Tiles extend 60° to either side of their middle, are 90° apart, and are blended where they
    overlap. Every second one is upside down, with its values multiplied by ``odd``. Rotation does
    not change a point's distance from the equator, so a row needs only two rows of the plane. With
    ``flat`` below 1, longitudes at the limb are less crowded than on a sphere. ``inner`` is the
    used part of the plane's disk, in its radii.

    Returns the first column of the disk and the column after the last one. ``out`` is set in
    between.
    """
    ring = np.sqrt(max(1 - y * y, 0.0))  # the sphere's half width here
    size = out.shape[0]
    first = max(0, int(CENTER - ring * radius) + 1)
    last = min(size, int(CENTER + ring * radius) + 1)
    scale = inner * plane_radius
    _blend_rows(plane, row + y * scale, 1.0, lines[:size])
    _blend_rows(plane, row - y * scale, odd, lines[size:])
    inverse, half = 1 / radius, 0.5 * ring  # sin 30° = 1/2
    slope = 0.5 / (0.20710678118654752 * ring + 1e-12)
    for k in range(first, last):  # no branches, for vector instructions
        x = (k - CENTER) * inverse * flat
        z = np.sqrt(max(ring * ring - x * x, 0.0))
        u, w = x * cosine - z * sine, z * cosine + x * sine
        # rotate by quarter turns, so that the point is within 45° of a tile's center
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
    """Rotate the texture of the corona to another time and distance.

    Parameters
    ----------
    texture, texture_radius
        See `textures.Texture`.
    radius
        Radius of the rendered disk, in pixels.
    sine, cosine
        Sine and cosine of the rotation since the real frame.
    tone
        Output, float32 (1024, 1024), south up.
    """
    size = tone.shape[0]
    lines, work, out = np.empty(2 * size), np.empty((3, size)), np.empty(size)
    for row in range(size):
        y = (row - CENTER) / radius
        if abs(y) < 1:
            first, last = _surface_row(
                texture, CENTER, CENTER, texture_radius, 1.0, y, radius, 0.96, INNER,
                sine, cosine, lines, work, out,
            )  # fmt: skip
            for column in range(first, last):
                tone[row, column] = np.float32(out[column])
    _stand_corona(texture, texture_radius, radius, cosine * cosine, tone)


@njit(nogil=True, cache=True, error_model="numpy")
def _stand_corona(texture, texture_radius, radius, upright, tone):  # type: ignore[no-untyped-def]
    """Set the texture above the limb, two rows at a time: one in the north and one in the south.

    ``upright`` is the weight of the real corona; the rest is its mirror image. It changes as the
    Sun rotates.
    """
    size = tone.shape[0]
    edge = _ring(tone, 0.97 * radius, EDGE_REACH)
    standing = _ring(texture, 1.004 * texture_radius, 3)
    # the mirror image has its angles reversed
    standing = upright * standing + (1 - upright) * standing[::-1]
    _lean_in(standing, radius, tone)
    squeeze = off_limb_scale(texture_radius, radius)
    offset = texture_radius - radius * squeeze
    place, north, south, distances = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    for row in range(size // 2, size):
        dy = row - CENTER
        chord = np.sqrt(max(radius * radius - dy * dy, 0.0))
        first, last = size, size
        if chord > 0:
            first, last = int(CENTER - chord) + 1, int(CENTER + chord) + 1
        count = size - last + first
        for outside in range(count):
            dx = (outside if outside < first else outside - first + last) - CENTER
            distance = np.sqrt(dx * dx + dy * dy)
            # the disk of the real frame may be larger: map corners to corners
            scale = offset / distance + squeeze
            distances[outside] = distance
            place[outside] = CENTER + dx * scale
            north[outside] = CENTER + dy * scale
        for outside in range(count):
            x, y = place[outside], north[outside]
            up, down = _bilinear(texture, x, y), _bilinear(texture, x, 2 * CENTER - y)
            north[outside] = down + (up - down) * upright
            south[outside] = up + (down - up) * upright
        reach = radius * 1.25
        for outside in range(count):
            column = outside if outside < first else outside - first + last
            up, down = north[outside], south[outside]
            if distances[outside] < reach:
                # bright regions at the limb extend above it
                fade = (reach - distances[outside]) / (reach - radius)
                fade *= fade
                dx = column - CENTER
                up *= 1 + (_around(edge, dx, dy) - 1) * fade
                down *= 1 + (_around(edge, dx, -dy) - 1) * fade
            tone[row, column] = np.float32(up)
            tone[size - 1 - row, column] = np.float32(down)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _around(edge, dx, dy):  # type: ignore[no-untyped-def]
    """Return the brightness at the limb in a direction."""
    place = _pseudo_angle(dx, dy) * (EDGE / 4)
    index = np.uint32(place)
    return edge[index] + (edge[index + 1] - edge[index]) * (place - index)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _pseudo_angle(dx, dy):  # type: ignore[no-untyped-def]
    """Return a number from 0 to 4 that increases with the position angle, without an arctangent."""
    share = dy / (abs(dx) + abs(dy))
    if dx < 0:
        return 2 - share
    return share if dy >= 0 else 4 + share


@njit(nogil=True, cache=True, error_model="numpy")
def _ring(plane, radius, reach):  # type: ignore[no-untyped-def]
    """Return smoothed values of a plane on a circle, by `_pseudo_angle`: float64 (`EDGE` + 1,)."""
    edge, smooth = np.empty(EDGE), np.empty(EDGE)
    for k in range(EDGE):
        angle = k * (4 / EDGE)
        quarter = int(angle)
        share = angle - quarter
        dx, dy = 1 - share, share
        for _ in range(quarter):
            dx, dy = -dy, dx
        length = radius / np.sqrt(dx * dx + dy * dy)
        edge[k] = _bilinear(plane, CENTER + dx * length, CENTER + dy * length)
    for _ in range(2):
        for k in range(EDGE):
            total = 0.0
            for step in range(-reach, reach + 1):
                total += edge[(k + step) % EDGE]
            smooth[k] = total / (2 * reach + 1)
        edge[:] = smooth
    return np.append(edge, edge[0])


@njit(nogil=True, cache=True, error_model="numpy")
def _lean_in(standing, radius, tone):  # type: ignore[no-untyped-def]
    """Continue the corona at the limb into the disk, close to the limb."""
    size = tone.shape[0]
    inner = 0.92 * radius
    for row in range(size):
        dy = row - CENTER
        outer_chord = np.sqrt(max(radius * radius - dy * dy, 0.0))
        inner_chord = np.sqrt(max(inner * inner - dy * dy, 0.0))
        if outer_chord == 0:
            continue
        first, last = int(CENTER - outer_chord) + 1, int(CENTER + outer_chord) + 1
        left, right = int(CENTER - inner_chord) + 1, int(CENTER + inner_chord) + 1
        for step in range(left - first + last - right):
            column = first + step if step < left - first else right + step - left + first
            dx = column - CENTER
            fade = max(np.sqrt(dx * dx + dy * dy) - inner, 0.0) / (radius - inner)
            bright = _around(standing, dx, dy)
            tone[row, column] *= np.float32(1 + (bright - 1) * fade * fade)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def off_limb_scale(texture_radius, radius):  # type: ignore[no-untyped-def]
    """Return the pixels of the real frame per pixel of the image, along rays above the limb."""
    return (CENTER - texture_radius) / (CENTER - radius)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _bilinear(plane, x, y):  # type: ignore[no-untyped-def]
    """Interpolate a plane between four pixels."""
    i, j = np.uint32(min(x, 1022.0)), np.uint32(min(y, 1022.0))
    p, q = x - i, y - j
    low = plane[j, i] + (plane[j, i + 1] - plane[j, i]) * p
    high = plane[j + 1, i] + (plane[j + 1, i + 1] - plane[j + 1, i]) * p
    return low + (high - low) * q


@njit(nogil=True, cache=True, error_model="numpy")
def turn_field(field, geometry, radius, sine, cosine, gauss):  # type: ignore[no-untyped-def]
    """Add the magnetic field, rotated to another time and distance.

    Parameters
    ----------
    field, geometry
        See `textures.Field`.
    radius, sine, cosine
        See `turn_texture`.
    gauss
        float32 (1024, 1024), south up. Contains the field of the active regions on entry.
    """
    size = gauss.shape[0]
    lines, work, out = np.empty(2 * size), np.empty((3, size)), np.empty(size)
    for row in range(size):
        y = (row - CENTER) / radius
        if abs(y) >= 1:
            continue
        first, last = _surface_row(
            field, geometry[0], geometry[1], geometry[2], -1.0, y, radius, 1.0, 0.999,
            sine, cosine, lines, work, out,
        )  # fmt: skip
        for column in range(first, last):
            gauss[row, column] += np.float32(out[column])


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _add_magnetism(gauss, network, spots, values):  # type: ignore[no-untyped-def]
    """Brighten a row's network and darken its sunspots."""
    for column in range(values.size):
        strength = abs(np.float64(gauss[column]))
        plage = 1 + min(max(strength - 12.0, 0.0), 300.0) * 0.01 * network
        umbra = 1 - min(max(strength - 450.0, 0.0) * 0.002, 0.75) * spots
        values[column] *= plage * umbra


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _sharpen_limb(distance, radius, disk, sky, values):  # type: ignore[no-untyped-def]
    """Make the limb sharp: the brightness falls to half of its height at the radius."""
    for column in range(values.size):
        r = distance[column]
        if abs(r - 1) * radius < 0.5:
            share = 0.5 + (1 - r) * radius
            inside = values[column] if r < 1 else disk
            values[column] = inside * share + sky * (1 - share)


@njit(nogil=True, cache=True, error_model="numpy")
def paint_corona(  # type: ignore[no-untyped-def]
    tone, gauss, radius, squeeze, profile, curve, weights, noise, seed, out
):
    """Paint one AIA frame in sixteenths of a DN.

    Parameters
    ----------
    tone, gauss
        Results of `turn_texture` and `turn_field`, with the active regions.
    radius
        Of the disk in pixels.
    squeeze
        Solar radii of the profile per solar radius above the limb.
    profile
        Intensity by distance from the center, in DN; steps of `PROFILE_STEP`.
    curve
        Brightness factor by tone: slope up to `KNEE`, and slope beyond it.
    weights
        Three numbers: strength of the magnetic network, strength of sunspots, and intensity at a
        sharp limb in DN, or 0 if the corona continues beyond it.
    noise
        Read noise in DN, photon noise in √DN.
    seed
        uint64.
    out
        int32 (1024, 1024), south up.
    """
    network, spots, sharp = weights[0], weights[1], weights[2]
    read2, photon2 = noise[0] * noise[0], noise[1] * noise[1]
    slope, gain = curve[0], curve[1]
    size = out.shape[1]
    deviate, distance, values = np.empty(size), np.empty(size), np.empty(size)
    inverse = 1 / radius
    for row in range(out.shape[0]):
        y2 = (row - CENTER) * (row - CENTER)
        # short loops, which the compiler can turn into vector instructions
        for column in range(size):
            distance[column] = np.sqrt(y2 + (column - CENTER) * (column - CENTER)) * inverse
        for column in range(size):
            deviate[column] = normal(seed, np.uint64(row * 1024 + column))
        for column in range(size):
            r = distance[column]
            r = 1 + (r - 1) * squeeze if r > 1 else r
            place = r * (1 / PROFILE_STEP)
            if sharp > 0 and r < 1:
                # do not blend disk and sky: the edge below does
                place = min(place, 1 / PROFILE_STEP - 1)
            index = np.uint32(place)
            values[column] = profile[index] + (profile[index + 1] - profile[index]) * (
                place - index
            )
        for column in range(size):
            t = np.float64(tone[row, column])
            factor = 1 + slope * (min(t, KNEE) - 1) + gain * max(t - KNEE, 0.0)
            values[column] *= 1.0 if sharp > 0 and distance[column] > 1 else factor
        if network > 0 or spots > 0:
            _add_magnetism(gauss[row], network, spots, values)
        if sharp > 0:
            _sharpen_limb(distance, radius, sharp, profile[np.uint32(1 / PROFILE_STEP)], values)
        for column in range(size):
            value = values[column]
            value += np.sqrt(read2 + photon2 * value) * deviate[column]
            out[row, column] = np.int32(min(value, 16383.0) * 16 + 4096.5) - np.int32(4096)


@njit(nogil=True, cache=True, error_model="numpy")
def paint_field(gauss, radius, noise, seed, out):  # type: ignore[no-untyped-def]
    """Paint one magnetogram in gray levels, north up, 0 off the disk.

    The levels follow the JSOC's rendering script: s = 400·B / (|B| + 30)^0.75, clipped to ±1500,
    level = int(253·(s + 1500)/3000 + 0.5), at least 1.

    Parameters
    ----------
    gauss
        Result of `turn_field`.
    radius
        Of the disk in pixels.
    noise
        Noise in gauss.
    seed
        uint64.
    out
        uint8 (1024, 1024).
    """
    size = out.shape[0]
    deviate = np.empty(size)
    for row in range(size):
        y = (row - CENTER) / radius
        chord = np.sqrt(max(1 - y * y, 0.0)) * radius
        first = max(0, int(CENTER - chord) + 1)
        last = min(size, int(CENTER + chord) + 1)
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
