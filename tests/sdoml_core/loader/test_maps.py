"""`SDOMLlite.sunpy_map` returns frames in physical units with their position on the sky."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest

from sdoml_core.errors import DatasetError
from sdoml_core.frames.magnetogram import level_to_gauss
from sdoml_core.loader import SDOMLlite
from sdoml_core.wcs import frame_header
from tests.support.sunpy_maps import import_sunpy_map
from tests.support.synthetic_shards import CONSTANT, FIRST, SIDE, at, frame, write_day

TIME = "2022-11-01T01:15:00"
OBSERVED = "2022-11-01T01:14:52.750"


@pytest.fixture(scope="module", autouse=True)
def _imported_sunpy() -> None:
    """Import sunpy when the first test needs it, and ignore its warnings."""
    import_sunpy_map()


def test_aia_map_is_in_dn_with_row_0_in_the_south(release: Path) -> None:
    import sunpy.map

    drawn = SDOMLlite(release, ["HMI_M", "AIA_0193"]).sunpy_map(TIME, "aia_0193")
    assert isinstance(drawn, sunpy.map.GenericMap)
    assert drawn.unit == u.Unit("DN / (pix s)")
    dn = frame(at(TIME), "AIA_0193") ** 2 * np.float32(CONSTANT / (1024 / SIDE) ** 2)
    assert drawn.data == pytest.approx(dn[::-1], rel=1e-6)
    assert (drawn.wavelength, drawn.exposure_time) == (193 * u.angstrom, 2.9 * u.s)
    assert drawn.date.isot == OBSERVED
    header = frame_header("AIA_0193", resolution=SIDE, observed=OBSERVED, rsun_obs=962.5)
    assert {key: drawn.meta[key.lower()] for key in header} == header


@pytest.mark.parametrize("units", ["normalized", "gauss"])
def test_hmi_map_is_in_gauss_regardless_of_units(release: Path, units: str) -> None:
    drawn = SDOMLlite(release, ["HMI_M"], units=units).sunpy_map(5, "HMI_M")
    assert drawn.unit == u.G
    assert drawn.date.isot == OBSERVED
    gauss = level_to_gauss(frame(at(TIME), "HMI_M"))[::-1]
    assert drawn.data == pytest.approx(gauss, abs=0.02)


def test_caller_sets_the_scale_of_hmi_frames(release: Path) -> None:
    dataset = SDOMLlite(release, ["HMI_M"])
    ours, original = dataset.sunpy_map(0, "HMI_M"), dataset.sunpy_map(0, "HMI_M", hmi_scale=0.85)
    assert original.meta["cdelt1"] / ours.meta["cdelt1"] == pytest.approx(2.0168 / 2.4 / 0.85)


def test_map_requires_a_loaded_channel_and_an_index(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="do not contain AIA_0171"):
        SDOMLlite(release, ["AIA_0193"]).sunpy_map(0, "AIA_0171")
    write_day(tmp_path, FIRST, index=False, hours=1)
    with pytest.raises(DatasetError, match="AIA_0193 at 2022-11-01T00:00:00 has no observation"):
        SDOMLlite(tmp_path, ["AIA_0193"]).sunpy_map(0, "AIA_0193")
