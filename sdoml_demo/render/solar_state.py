"""The state of the Sun at a time: distance, orientation, activity, active regions.

Everything depends only on the time, and random choices only on a hash of their key, so that two
machines agree. Numbers that affect pixels are rounded, since the last bit of a sine depends on the
platform.
"""

import csv
import hashlib
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise

import erfa
import numpy as np
from numpy.typing import NDArray

SOLAR_RADIUS = 696_000_000.0
"""Meters; RSUN_REF of the archive's headers."""

REFERENCE_TIME = datetime(2014, 1, 1, tzinfo=UTC)
"""Time of the real EUV frames, at which the rendered Sun has no rotation."""

_ASTRONOMICAL_UNIT = 149_597_870_700.0
_POLE = (math.radians(286.13), math.radians(63.87))  # of the Sun; Archinal et al. 2018
_PRIME_MERIDIAN = (84.176, 14.1844)  # degrees at J2000, degrees per day
_LIGHT_DAYS_PER_AU = 499.004784 / 86400

_CYCLE = (
    # (year, activity): smoothed sunspot number over cycles 24 and 25, peak = 1
    *((2009.0, 0.02), (2010.4, 0.12), (2011.2, 0.40), (2012.2, 0.62), (2014.3, 0.80)),
    *((2015.5, 0.50), (2017.0, 0.18), (2018.6, 0.06), (2019.9, 0.02), (2021.2, 0.15)),
    *((2022.2, 0.50), (2023.4, 0.90), (2024.7, 1.00), (2026.0, 0.75), (2027.5, 0.40)),
    *((2029.0, 0.12), (2030.8, 0.02)),
)
_CYCLE_YEARS = 10.9  # later cycles repeat the latest one


@dataclass(frozen=True, slots=True)
class Earth:
    """Position of the observer: the numbers of a header's orbit cards."""

    distance: float
    """Meters."""
    rsun_obs: float
    """Apparent solar radius in arcsec, to six digits as in the header."""
    carrington_longitude: float
    """Carrington longitude of the disk center, degrees."""
    latitude: float
    """Heliographic latitude of the disk center, degrees."""
    rotation: int
    """Carrington rotation number."""


@dataclass(frozen=True, slots=True)
class Region:
    """An active region on the visible side; vectors are (west, north, toward the observer)."""

    center: tuple[float, float, float]
    east_west: tuple[float, float, float]
    north_south: tuple[float, float, float]
    size: float
    """Size in solar radii."""
    strength: float
    """Field in gauss, with the sign of the leading polarity."""
    seed: int

    @property
    def vectors(self) -> NDArray[np.float64]:
        """The three vectors in a row, for the kernels; shape (9,)."""
        return np.array((*self.center, *self.east_west, *self.north_south), np.float64)


def uniform(*key: object) -> float:
    """Return a number in [0, 1) that depends on the key alone."""
    return digest(*key) / 2.0**64


def digest(*key: object) -> int:
    """Return an unsigned 64-bit number that depends on the key alone."""
    text = "\0".join(str(part) for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


@lru_cache(maxsize=64)
def observe(time: datetime) -> Earth:
    """Compute distance and orientation as seen from the Earth, to about 0.01 degrees.

    SDO's own orbit is ignored: it changes RSUN_OBS by less than 0.3 arcsec.
    """
    days = (time - datetime(2000, 1, 1, 12, tzinfo=UTC)) / timedelta(days=1) + 69.184 / 86400
    heliocentric, _ = erfa.epv00(2451545.0, days)
    x, y, z = (float(value) for value in heliocentric["p"])
    distance = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / distance, y / distance, z / distance
    ascension, declination = _POLE
    pole = (
        math.cos(declination) * math.cos(ascension),
        math.cos(declination) * math.sin(ascension),
        math.sin(declination),
    )
    node = (-math.sin(ascension), math.cos(ascension), 0.0)
    across = (-pole[2] * node[1], pole[2] * node[0], pole[0] * node[1] - pole[1] * node[0])
    latitude = math.asin(x * pole[0] + y * pole[1] + z * pole[2])
    hour_angle = math.degrees(
        math.atan2(
            x * across[0] + y * across[1] + z * across[2],
            x * node[0] + y * node[1] + z * node[2],
        )
    )
    seen = days - distance * _LIGHT_DAYS_PER_AU
    longitude = (hour_angle - _PRIME_MERIDIAN[0] - _PRIME_MERIDIAN[1] * seen) % 360.0
    # `turns` gives the number of full rotations; the longitude gives the fraction more precisely
    turns = (days + 2451545.0 - 2398140.2270) / 27.2752316
    rotation = round(turns - (360.0 - longitude) / 360.0)
    meters = distance * _ASTRONOMICAL_UNIT
    return Earth(
        distance=round(meters, 2),
        rsun_obs=round(math.degrees(math.asin(SOLAR_RADIUS / meters)) * 3600, 6),
        carrington_longitude=round(longitude, 6),
        latitude=round(math.degrees(latitude), 6),
        rotation=rotation,
    )


def turned(time: datetime) -> tuple[float, float]:
    """Return sine and cosine of the Sun's rotation since the real frames were taken."""
    angle = math.radians(_total_turn(time))
    return round(math.sin(angle), 9), round(math.cos(angle), 9)


def _total_turn(time: datetime) -> float:
    """Return degrees since the reference time, as seen from the Earth (synodic)."""
    now, then = observe(time), observe(REFERENCE_TIME)
    return (then.carrington_longitude - now.carrington_longitude) % 360.0


def activity(day: date) -> float:
    """Return the Sun's activity: 0 (minimum) to 1 (the maximum of cycle 25)."""
    year = day.year + (day.timetuple().tm_yday - 1) / 365.25
    while year > _CYCLE[-1][0]:
        year -= _CYCLE_YEARS
    for (before, low), (after, high) in pairwise(_CYCLE):
        if year <= after:
            return low + (high - low) * max(0.0, year - before) / (after - before)
    raise AssertionError


def region_brightness(day: date) -> float:
    """Return the brightness of the active regions in the real frames, relative to the real time.

    It is rounded to tenths, so that a few planes suffice for all days.
    """
    level = activity(day) / activity(REFERENCE_TIME.date())
    return round(min(0.05 + 0.95 * level, 1.1), 1)


def regions(time: datetime) -> tuple[Region, ...]:
    """Return the active regions on the visible side.

    New regions appear each week, more of them near the maximum. They live two to five weeks, appear
    closer to the equator as the cycle progresses, and rotate with the Sun.
    """
    week = (time.date() - date(2010, 1, 4)).days // 7
    found = []
    for born_in in range(week - 5, week + 1):
        first = datetime(2010, 1, 4, tzinfo=UTC) + timedelta(weeks=born_in)
        level = activity(first.date())
        count = int(6.0 * level + uniform("count", born_in))
        for number in range(count):
            region = _region(time, first, ("region", born_in, number), level)
            if region is not None:
                found.append(region)
    return tuple(found)


def _region(
    time: datetime, first: datetime, key: tuple[object, ...], level: float
) -> Region | None:
    age = (time - first) / timedelta(days=1) - 7 * uniform(*key, "birth")
    life = 14 + 21 * uniform(*key, "life")
    if not 0 < age < life:
        return None
    growth = min(1.0, age / 3, (life - age) / 7)
    longitude = 360 * uniform(*key, "longitude") - observe(time).carrington_longitude
    longitude = (longitude + 180) % 360 - 180
    if abs(longitude) > 89:
        return None
    north = uniform(*key, "hemisphere") < 0.5
    latitude = (9 + 16 * uniform(*key, "latitude") * (1.1 - 0.5 * level)) * (1 if north else -1)
    sine_b, cosine_b = math.sin(math.radians(latitude)), math.cos(math.radians(latitude))
    sine_l, cosine_l = math.sin(math.radians(longitude)), math.cos(math.radians(longitude))
    # Hale's law: polarities swap between hemispheres, and from cycle 24 to 25
    polarity = (1 if north else -1) * (1 if first.year < 2020 else -1)
    vectors = (
        (cosine_b * sine_l, sine_b, cosine_b * cosine_l),
        (cosine_l, 0.0, -sine_l),
        (-sine_b * sine_l, cosine_b, -sine_b * cosine_l),
    )
    center, east_west, north_south = (
        (round(v[0], 9), round(v[1], 9), round(v[2], 9)) for v in vectors
    )
    return Region(
        center=center,
        east_west=east_west,
        north_south=north_south,
        size=round((0.035 + 0.06 * uniform(*key, "size")) * (0.5 + 0.5 * growth), 9),
        strength=round(polarity * growth * (600 + 1200 * uniform(*key, "strength")), 6),
        seed=digest(*key) >> 1,
    )


@cache
def _degradation_rows() -> dict[str, dict[int, float]]:
    source = files("sdoml_core") / "data" / "degradation_v9.csv"
    with source.open(encoding="ascii") as file:
        return {
            row.pop("date"): {int(name): float(value) for name, value in row.items()}
            for row in csv.DictReader(file)
        }


def degradation(day: date, wavelength: int) -> float:
    """Return the degradation factor. Days outside the table use its nearest row."""
    rows = _degradation_rows()
    first, last = min(rows), max(rows)
    return rows[min(max(day.isoformat(), first), last)][wavelength]
