"""The pixel grid of rendered images, and directions on the visible hemisphere."""

import numpy as np
from numpy.typing import NDArray

SIZE = 1024
"""Pixels along each side."""

CENTER = (SIZE - 1) / 2
"""Column and row of the disk center."""


def sphere_vectors(west: float, north: float) -> NDArray[np.float64]:
    """Return the local directions at a point of the visible hemisphere.

    Parameters
    ----------
    west, north
        Position of the point relative to the disk center, in solar radii.

    Returns
    -------
    float64 (9,): unit vectors (west, north, toward the observer) to the point, along its
    parallel to the west, and along its meridian to the north.
    """
    toward = float(np.sqrt(1 - west * west - north * north))
    ring = float(np.sqrt(1 - north * north))  # cosine of the latitude
    sine, cosine = west / ring, toward / ring  # of the longitude
    return np.array([west, north, toward, cosine, 0.0, -sine, -north * sine, ring, -north * cosine])
