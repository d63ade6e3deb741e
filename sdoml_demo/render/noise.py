"""Noise that is the same on every machine, from a counter-based generator."""

import numpy as np
from numba import njit


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def random_bits(seed, counter):  # type: ignore[no-untyped-def]
    """Return 64 random bits for a counter (splitmix64)."""
    z = seed + counter * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def normal(seed, counter):  # type: ignore[no-untyped-def]
    """Return an approximate standard normal deviate: the scaled sum of four 16-bit uniforms."""
    bits = random_bits(seed, counter)
    mask = np.uint64(0xFFFF)
    total = (
        (bits & mask)
        + ((bits >> np.uint64(16)) & mask)
        + ((bits >> np.uint64(32)) & mask)
        + (bits >> np.uint64(48))
    )
    return (np.float64(total) - 131070.0) * 2.6429e-05


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def value_noise(seed, a, b):  # type: ignore[no-untyped-def]
    """Return smooth noise in [0, 1] over a plane, from a lattice of random values."""
    shifted_a, shifted_b = a + 512.0, b + 512.0
    i, j = int(shifted_a), int(shifted_b)
    p, q = shifted_a - i, shifted_b - j
    p, q = p * p * (3 - 2 * p), q * q * (3 - 2 * q)
    scale = 1 / 4294967296.0
    place = i + 4096 * j
    v00 = np.float64(random_bits(seed, np.uint64(place)) >> np.uint64(32)) * scale
    v10 = np.float64(random_bits(seed, np.uint64(place + 1)) >> np.uint64(32)) * scale
    v01 = np.float64(random_bits(seed, np.uint64(place + 4096)) >> np.uint64(32)) * scale
    v11 = np.float64(random_bits(seed, np.uint64(place + 4097)) >> np.uint64(32)) * scale
    return (v00 * (1 - p) + v10 * p) * (1 - q) + (v01 * (1 - p) + v11 * p) * q
