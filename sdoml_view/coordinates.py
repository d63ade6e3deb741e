"""Positions on the Sun: heliographic coordinates of pixels, and grid lines for frames."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from sdoml_core.ephemeris import solar_radius
from sdoml_core.wcs import frame_header

GRID_STEP: Final = 15
"""Degrees between lines of the heliographic grid."""

_ARCSEC = math.radians(1 / 3600)


@dataclass(frozen=True, slots=True)
class Place:
    """A pixel's position in the sky and on the Sun."""

    solar_x: float
    """Helioprojective longitude in arcsec, positive to the west."""
    solar_y: float
    """Helioprojective latitude in arcsec, positive to the north."""
    longitude: float | None
    """Stonyhurst longitude in degrees. None off the disk."""
    latitude: float | None
    """Stonyhurst latitude in degrees. None off the disk."""


@dataclass(frozen=True, slots=True)
class View:
    """Geometry of one frame: position and tilt of the Sun."""

    resolution: int
    center_x: float
    """Column of the center of the Sun, counted from 0 at the center of the first pixel."""
    center_y: float
    """Row of the center of the Sun, counted from 0 at the north edge."""
    pixel: float
    """Size of a pixel in radians."""
    distance: float
    """Distance of the observer from the center of the Sun in solar radii."""
    tilt: float
    """Heliographic latitude of the observer (B0) in radians."""

    @classmethod
    def of(
        cls, channel: str, *, resolution: int, observed: datetime, rsun_obs: float | None
    ) -> Self:
        """Return the geometry of a frame.

        Parameters
        ----------
        channel
            Name of the channel.
        resolution
            n, pixels along each side of the frame.
        observed
            Observation time, timezone-aware.
        rsun_obs
            Apparent radius of the Sun in arcsec. With None, it is computed from the time.
        """
        radius = rsun_obs or solar_radius(observed)
        header = frame_header(channel, resolution=resolution, observed=observed, rsun_obs=radius)
        return cls(
            resolution=resolution,
            center_x=float(header["CRPIX1"]) - 1,
            center_y=resolution - float(header["CRPIX2"]),  # row 0 of the header is in the south
            pixel=float(header["CDELT1"]) * _ARCSEC,
            distance=1 / math.sin(radius * _ARCSEC),
            tilt=math.radians(float(header["HGLT_OBS"])),
        )

    def place(self, column: float, row: float) -> Place:
        """Return the position of a pixel, by column and row, counted from the northeast corner."""
        xi, eta = (column - self.center_x) * self.pixel, (self.center_y - row) * self.pixel
        solar_x = math.atan2(xi, 1)
        solar_y = math.atan2(eta, math.hypot(1, xi))
        # The ray (ξ, η, −1) from the observer meets the sphere at distance t.
        q = 1 + xi * xi + eta * eta
        discriminant = self.distance**2 - q * (self.distance**2 - 1)
        longitude = latitude = None
        if discriminant >= 0:
            t = (self.distance - math.sqrt(discriminant)) / q
            x, y, z = t * xi, t * eta, self.distance - t
            north = y * math.cos(self.tilt) + z * math.sin(self.tilt)
            toward = z * math.cos(self.tilt) - y * math.sin(self.tilt)
            latitude = math.degrees(math.asin(max(-1.0, min(1.0, north))))
            longitude = math.degrees(math.atan2(x, toward))
        return Place(solar_x / _ARCSEC, solar_y / _ARCSEC, longitude, latitude)

    def limb(self) -> tuple[float, float, float]:
        """Return the center and radius (x, y, r) of the limb, as fractions of the frame's side."""
        radius = math.tan(math.asin(1 / self.distance)) / self.pixel
        n = self.resolution
        return (self.center_x + 0.5) / n, (self.center_y + 0.5) / n, radius / n

    def grid(self, step: int = GRID_STEP) -> list[list[tuple[float, float]]]:
        """Return the visible parts of the heliographic grid as lines.

        Points (x, y) are distances from the northeast corner, as fractions of the frame's side.
        """
        fine = np.radians(np.arange(-90, 90.1, 3))
        around = np.radians(np.arange(-90, 90.1, 3))
        steps = np.radians(np.arange(-90 + step, 90, step))
        lines = [self._line(np.full_like(fine, longitude), fine) for longitude in steps]
        lines += [self._line(around, np.full_like(around, latitude)) for latitude in steps]
        return [line for line in lines if len(line) > 1]

    def _line(
        self, longitude: NDArray[np.float64], latitude: NDArray[np.float64]
    ) -> list[tuple[float, float]]:
        x = np.cos(latitude) * np.sin(longitude)
        north, toward = np.sin(latitude), np.cos(latitude) * np.cos(longitude)
        y = north * math.cos(self.tilt) - toward * math.sin(self.tilt)
        z = north * math.sin(self.tilt) + toward * math.cos(self.tilt)
        visible = z > 1 / self.distance
        depth = self.distance - z
        columns = self.center_x + x / depth / self.pixel
        rows = self.center_y - y / depth / self.pixel
        n = self.resolution
        return [
            (round((column + 0.5) / n, 5), round((row + 0.5) / n, 5))
            for column, row, seen in zip(columns, rows, visible, strict=True)
            if seen
        ]
