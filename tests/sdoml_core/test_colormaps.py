import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sdoml_core.channels import CHANNELS
from sdoml_core.colormaps import AIA_TABLE, apply_colormap, colormap


@pytest.fixture(scope="module")
def sunpy_tables() -> ModuleType:
    """Load SunPy's color tables from their file, because importing their package needs extras."""
    sunpy = importlib.util.find_spec("sunpy")
    assert sunpy is not None
    assert sunpy.origin is not None
    path = Path(sunpy.origin).parent / "visualization/colormaps/color_tables.py"
    spec = importlib.util.spec_from_file_location("color_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("channel", AIA_TABLE)
def test_aia_colormaps_match_sunpy(sunpy_tables: ModuleType, channel: str) -> None:
    import astropy.units as u

    theirs = sunpy_tables.aia_color_table(CHANNELS[channel].wavelength * u.angstrom)
    assert np.array_equal(colormap(channel), theirs(np.arange(256), bytes=True)[:, :3])


def test_hmi_colormap_is_gray() -> None:
    levels = np.arange(256)
    assert np.array_equal(colormap("HMI_M"), np.stack([levels] * 3, axis=1))


def test_unknown_channel_is_rejected() -> None:
    with pytest.raises(KeyError):
        colormap("AIA_4500")


def test_brightness_is_clipped_and_missing_pixels_are_dark() -> None:
    brightness = np.array([[-1, 0, 0.5], [1, 7, np.nan]], np.float32)
    colors = apply_colormap("HMI_M", brightness)
    assert colors.shape == (2, 3, 3)
    assert colors[..., 0].tolist() == [[0, 0, 128], [255, 255, 0]]


def test_colormaps_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        colormap("AIA_0171")[0] = 1


def test_colormaps_do_not_need_numba() -> None:
    code = "import sys, sdoml_core.colormaps; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
