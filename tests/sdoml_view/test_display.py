"""Display levels: each channel has one scale, whatever its constant."""

import numpy as np
import pytest

from sdoml_core.channels import CHANNELS
from sdoml_core.frames.magnetogram import gauss_to_level, gauss_to_stored
from sdoml_core.normalization.transform import normalize
from sdoml_view.display import STRETCHES, level_table, to_levels

N = 512


def shown(channel: str, dn: float, constant: float) -> int:
    """Normalize a value in DN/s with a constant and return its display level."""
    processed = np.full((1, 1), dn * (1024 / N) ** 2, np.float32)
    normalized = np.empty_like(processed)
    normalize(processed, constant, normalized, transform="sqrt")
    facts = {"constant": constant, "transform": "sqrt"}
    return int(to_levels(normalized, level_table(channel, facts, N))[0, 0])


@pytest.mark.parametrize("channel", STRETCHES)
def test_display_level_does_not_depend_on_the_constant(channel: str) -> None:
    stretch = STRETCHES[channel]
    dn = 0.3 * stretch.white
    # The second constant is that of a flare, as in the original dataset.
    one, two = shown(channel, dn, 5 * stretch.white * 4), shown(channel, dn, 4e6)
    assert 10 < one < 250
    assert two == pytest.approx(one, abs=3)


def test_every_aia_channel_has_a_range() -> None:
    assert set(STRETCHES) == {name for name in CHANNELS if name.startswith("AIA")}


def test_levels_and_gauss_produce_the_same_picture() -> None:
    gauss = np.array([[-200.0, -20.0, 0.0, 20.0, 200.0]])
    levels = to_levels(
        gauss_to_level(gauss).astype(np.float32),
        level_table("HMI_M", {"constant": 1.0, "transform": "linear"}, N),
    )
    field = to_levels(
        gauss_to_stored(gauss).astype(np.float32),
        level_table("HMI_M", {"constant": 300.0, "transform": "field"}, N),
    )
    np.testing.assert_allclose(field.astype(int), levels.astype(int), atol=1)


def test_pixels_off_the_disk_are_black() -> None:
    table = level_table("HMI_M", {"constant": 300.0, "transform": "field"}, N)
    assert to_levels(np.zeros((1, 1), np.float32), table)[0, 0] == 0


def test_level_without_constants_is_the_normalized_value() -> None:
    table = level_table("AIA_0171", {"constant": None, "transform": None}, N)
    assert to_levels(np.full((1, 1), 0.5, np.float32), table)[0, 0] == 128
