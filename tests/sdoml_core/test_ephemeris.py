from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.ephemeris import hmi_observed, solar_radius
from sdoml_core.frames.aia import decode_aia

REAL_AIA = Path(__file__).parents[2] / "sdoml_demo/data/AIA20180820_1248_0193.fits"


def test_radius_agrees_with_the_real_header() -> None:
    frame = decode_aia(REAL_AIA.read_bytes())
    assert solar_radius(frame.observed) == pytest.approx(frame.rsun_obs, abs=0.15)


def test_radius_is_close_to_that_in_a_published_header() -> None:
    # RSUN_OBS of AIA 171 Å, 2011-06-07 06:33:02 UTC, in SunPy's sample data
    assert solar_radius(datetime(2011, 6, 7, 6, 33, 2, tzinfo=UTC)) == pytest.approx(
        945.436711, abs=0.27
    )


@pytest.mark.parametrize(
    ("time", "kilometers"),
    [
        (datetime(2023, 1, 4, 16, 17, tzinfo=UTC), 147_098_925),  # published perihelia and aphelia
        (datetime(2023, 7, 6, 20, 6, tzinfo=UTC), 152_093_251),
        (datetime(2024, 1, 3, 0, 38, tzinfo=UTC), 147_100_632),
        (datetime(2024, 7, 5, 5, 6, tzinfo=UTC), 152_099_968),
    ],
)
def test_radius_agrees_with_published_distances(time: datetime, kilometers: float) -> None:
    published = np.degrees(np.arcsin(696_000 / kilometers)) * 3600
    assert solar_radius(time) == pytest.approx(published, abs=0.001)


def test_radius_agrees_with_the_sunpy_distance() -> None:
    from sunpy.coordinates.sun import earth_distance

    for year in range(2010, 2026, 3):
        time = datetime(year, 3 + year % 9, 17, 5, tzinfo=UTC)
        kilometers = earth_distance(time.replace(tzinfo=None)).to_value("km")
        expected = np.degrees(np.arcsin(696_000 / kilometers)) * 3600
        assert solar_radius(time) == pytest.approx(expected, abs=0.01)


def test_sequence_returns_the_same_radii_as_single_times() -> None:
    times = [datetime(2022, 11, 1, tzinfo=UTC) + timedelta(days=30 * n) for n in range(12)]
    radii = solar_radius(times)
    assert radii.dtype == np.float64
    assert radii.tolist() == [solar_radius(time) for time in times]
    assert solar_radius([]).shape == (0,)


def test_naive_time_is_rejected() -> None:
    with pytest.raises(TypeError, match="offset-naive"):
        solar_radius(datetime(2022, 11, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("name", "utc"),
    [
        (datetime(2010, 5, 13, 0, 15, tzinfo=UTC), datetime(2010, 5, 13, 0, 14, 26, tzinfo=UTC)),
        (datetime(2012, 7, 1, 0, 0, tzinfo=UTC), datetime(2012, 6, 30, 23, 59, 26, tzinfo=UTC)),
        (datetime(2012, 7, 1, 0, 15, tzinfo=UTC), datetime(2012, 7, 1, 0, 14, 25, tzinfo=UTC)),
        (datetime(2017, 1, 1, 0, 0, 36, tzinfo=UTC), datetime(2017, 1, 1, tzinfo=UTC)),
        (datetime(2017, 1, 1, 0, 15, tzinfo=UTC), datetime(2017, 1, 1, 0, 14, 23, tzinfo=UTC)),
        (datetime(2024, 1, 1, tzinfo=UTC), datetime(2023, 12, 31, 23, 59, 23, tzinfo=UTC)),
    ],
)
def test_hmi_file_names_use_tai(name: datetime, utc: datetime) -> None:
    if name == datetime(2017, 1, 1, 0, 0, 36, tzinfo=UTC):
        # This time is in a leap second. A datetime cannot express 23:59:60 UTC, so the function
        # returns the preceding second.
        assert abs(hmi_observed(name) - utc) <= timedelta(seconds=1)
    else:
        assert hmi_observed(name) == utc


def test_hmi_time_agrees_with_astropy() -> None:
    from astropy.time import Time

    for year in range(2010, 2027, 2):
        name = datetime(year, 6, 11, 12, 45, tzinfo=UTC)
        expected = Time(name.replace(tzinfo=None), scale="tai").utc.to_datetime(timezone=UTC)
        assert abs(hmi_observed(name) - expected) < timedelta(milliseconds=1)


def test_time_before_leap_seconds_is_rejected() -> None:
    # TAI − UTC was 10 s when leap seconds were introduced.
    first = datetime(1972, 1, 1, tzinfo=UTC)
    assert hmi_observed(first + timedelta(seconds=10)) == first
    with pytest.raises(ValueError, match=r"1972-01-01 00:00:09\S* is before 1972"):
        hmi_observed(first + timedelta(seconds=9))
