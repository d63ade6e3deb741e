"""Compute the solar radius, B0 and the time of HMI frames, without external files."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import overload

import erfa
import numpy as np
from numpy.typing import NDArray

SOLAR_RADIUS_KM = 696_000.0
"""Solar radius in km (RSUN_REF in the AIA headers)."""

ASTRONOMICAL_UNIT_KM = 149_597_870.7

_J2000 = datetime(2000, 1, 1, 12, tzinfo=UTC)
_J2000_JD = 2451545.0
_POLE = (math.radians(286.13), math.radians(63.87))  # right ascension, declination; IAU
_TT_MINUS_UTC_DAYS = 69.184 / 86400  # exact since 2017; an error of 3 s changes the radius by 1e-8


@overload
def solar_radius(times: datetime) -> float: ...
@overload
def solar_radius(times: Sequence[datetime]) -> NDArray[np.float64]: ...
def solar_radius(times: datetime | Sequence[datetime]) -> float | NDArray[np.float64]:
    """Return the angular radius of the Sun, like RSUN_OBS in the AIA headers.

    The radius is asin(696000 km / d), where d is the distance from the Earth's center to the Sun
    (ERFA's `epv00`, VSOP2000). The headers use the distance from SDO, which orbits 42,000 km from
    the Earth's center. The difference is at most 0.27″, or 0.08 px on the grid of the processed
    frames.

    Parameters
    ----------
    times
        One or more timezone-aware datetimes.

    Returns
    -------
    Radius in arcseconds: a float for one time, or float64 (len(times),) for a sequence.
    """
    if isinstance(times, datetime):
        return float(_radius([times])[0])
    return _radius(times)


def hmi_observed(minute: datetime) -> datetime:
    """Convert the TAI time in an HMI file name to UTC.

    Parameters
    ----------
    minute
        The time in the file name, as a timezone-aware datetime labeled UTC.

    Returns
    -------
    Timezone-aware UTC time. Since 2017, it is 37 s earlier than the TAI time. The leap seconds come
    from ERFA.
    """
    for since, seconds in _leap_seconds():
        observed = minute - timedelta(seconds=seconds)
        if observed >= since:
            return observed
    raise ValueError(f"{minute} is before 1972, when leap seconds were introduced")


def earth_from_sun(*times: datetime) -> NDArray[np.float64]:
    """Return the heliocentric position of the Earth in au (ERFA's `epv00`, J2000 equatorial axes).

    Parameters
    ----------
    times
        Timezone-aware datetimes.

    Returns
    -------
    float64 (len(times), 3).
    """
    days = [(time - _J2000) / timedelta(days=1) + _TT_MINUS_UTC_DAYS for time in times]
    heliocentric, _ = erfa.epv00(_J2000_JD, np.array(days, np.float64))
    position: NDArray[np.float64] = heliocentric["p"]
    return position


def heliographic_latitude(time: datetime) -> float:
    """Return the heliographic latitude of the Earth's center (B0), in degrees.

    It is computed from ERFA's `epv00` and the Sun's pole at α = 286.13°, δ = 63.87° (IAU). Light
    travel time and aberration are neglected. Their combined effect is below 0.001°.
    """
    (position,) = earth_from_sun(time)
    direction = position / np.linalg.norm(position)
    return math.degrees(math.asin(float(direction @ erfa.s2c(*_POLE))))


def _radius(times: Sequence[datetime]) -> NDArray[np.float64]:
    distance = np.linalg.norm(earth_from_sun(*times), axis=-1) * ASTRONOMICAL_UNIT_KM
    radius: NDArray[np.float64] = np.degrees(np.arcsin(SOLAR_RADIUS_KM / distance)) * 3600
    return radius


@lru_cache(maxsize=1)
def _leap_seconds() -> tuple[tuple[datetime, float], ...]:
    """Return pairs (start, TAI − UTC in seconds), newest first."""
    table = erfa.leap_seconds.get()
    recent = table[table["year"] >= 1972]  # before 1972, TAI − UTC was not a whole number
    return tuple(
        (datetime(int(row["year"]), int(row["month"]), 1, tzinfo=UTC), float(row["tai_utc"]))
        for row in recent[::-1]
    )
