"""Pixel coordinates, compared with sunpy."""

from datetime import UTC, datetime

import astropy.units as u
import numpy as np
import pytest

from sdoml_core.wcs import frame_header
from sdoml_view.coordinates import View
from tests.support.sunpy_maps import sunpy_map

OBSERVED = datetime(2024, 3, 8, 12, 0, 9, tzinfo=UTC)
N = 512


@pytest.mark.parametrize("channel", ["AIA_0171", "HMI_M"])
def test_coordinates_agree_with_sunpy(channel: str) -> None:
    from sunpy.coordinates import HeliographicStonyhurst

    view = View.of(channel, resolution=N, observed=OBSERVED, rsun_obs=966.4)
    header = frame_header(channel, resolution=N, observed=OBSERVED, rsun_obs=966.4)
    solar = sunpy_map(np.zeros((N, N)), header)
    for column, row in ((256.0, 256.0), (300.0, 180.0), (120.0, 350.0), (400.0, 200.0)):
        place = view.place(column, row)
        world = solar.pixel_to_world(column * u.pix, (N - 1 - row) * u.pix)
        assert place.solar_x == pytest.approx(world.Tx.to_value("arcsec"), abs=1e-3)
        assert place.solar_y == pytest.approx(world.Ty.to_value("arcsec"), abs=1e-3)
        on_sun = world.transform_to(HeliographicStonyhurst(obstime=solar.date))
        assert place.longitude == pytest.approx(on_sun.lon.wrap_at(180 * u.deg).deg, abs=0.01)
        assert place.latitude == pytest.approx(on_sun.lat.deg, abs=0.01)


def test_pixels_off_the_disk_have_no_heliographic_coordinates() -> None:
    view = View.of("AIA_0171", resolution=N, observed=OBSERVED, rsun_obs=966.4)
    place = view.place(2, 2)
    assert place.longitude is None
    assert place.latitude is None


def test_grid_lines_match_their_coordinates() -> None:
    view = View.of("AIA_0171", resolution=N, observed=OBSERVED, rsun_obs=966.4)
    x, y, radius = view.limb()
    assert radius == pytest.approx(976 / 2.4 / 1024, abs=1e-4)
    lines = view.grid()
    assert len(lines) == 22  # 11 meridians and 11 parallels
    for line in lines:
        points = np.array(line)
        assert np.hypot(points[:, 0] - x, points[:, 1] - y).max() <= radius + 1e-4
    equator = lines[11 + 5]
    latitudes = [view.place(px * N - 0.5, py * N - 0.5).latitude for px, py in equator[2:-2]]
    assert latitudes == pytest.approx([0] * len(latitudes), abs=0.05)


def test_radius_is_computed_if_the_index_lacks_it() -> None:
    known = View.of("HMI_M", resolution=N, observed=OBSERVED, rsun_obs=966.0)
    computed = View.of("HMI_M", resolution=N, observed=OBSERVED, rsun_obs=None)
    assert computed.distance == pytest.approx(known.distance, rel=2e-3)
