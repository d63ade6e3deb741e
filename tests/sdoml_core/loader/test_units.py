"""Conversion to physical units and back, for single channels and for tensors."""

import numpy as np
import pytest
import torch

from sdoml_core.errors import DatasetError
from sdoml_core.frames.magnetogram import gauss_to_level, level_to_gauss
from sdoml_core.loader import SDOMLlite
from tests.support.synthetic_shards import CONSTANT, SIDE

CHANNELS = ("AIA_0193", "HMI_M", "AIA_0171")
SAMPLES = (1024 / SIDE) ** 2


@pytest.fixture(scope="module")
def plain(release):
    return SDOMLlite(release, CHANNELS)


def test_each_channel_can_have_a_different_unit(release, plain):
    y = plain[4][0].numpy()
    chosen = SDOMLlite(release, CHANNELS, units={"aia_0193": "dn", "HMI_M": "gauss"})
    image = chosen[4][0].numpy()
    np.testing.assert_allclose(image[0], y[0] ** 2 * CONSTANT / SAMPLES, rtol=1e-5)
    np.testing.assert_allclose(image[1], level_to_gauss(y[1]), atol=0.02)
    np.testing.assert_array_equal(image[2], y[2])
    assert "AIA_0193 dn, HMI_M gauss, AIA_0171 normalized" in repr(chosen)
    physical = SDOMLlite(release, CHANNELS, units="physical")
    np.testing.assert_array_equal(physical[4][0].numpy()[:2], image[:2])
    np.testing.assert_allclose(physical[4][0][2], y[2] ** 2 * CONSTANT / SAMPLES, rtol=1e-5)


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"AIA_0193": "gauss"}, "cannot be converted to 'gauss': its physical unit is 'dn'"),
        ({"HMI_M": "kelvin"}, "unknown unit 'kelvin'"),
        ({"AIA_0335": "dn"}, "contains AIA_0335, which is not a requested channel"),
    ],
)
def test_inapplicable_units_are_rejected(release, units, message):
    with pytest.raises(DatasetError, match=message):
        SDOMLlite(release, CHANNELS, units=units)


def test_tensors_convert_like_samples_and_back(release, plain):
    batch = torch.stack([plain[number][0] for number in (0, 7)])[:, None]
    physical = plain.to_physical(batch)
    expected = SDOMLlite(release, CHANNELS, units="physical")
    for number, values in zip((0, 7), physical[:, 0], strict=True):
        torch.testing.assert_close(values, expected[number][0], equal_nan=True)
    back = plain.to_normalized(physical)
    torch.testing.assert_close(back[:, :, ::2], batch[:, :, ::2])
    levels = batch[:, :, 1]  # saturated levels convert to the limit of the range
    np.testing.assert_allclose(
        back[:, :, 1], gauss_to_level(level_to_gauss(levels.numpy())), atol=1e-4
    )


def test_predictions_beyond_the_range_are_clipped(plain):
    prediction = torch.full((1, 4, 4), 1.5, requires_grad=True)
    top = plain.to_physical(prediction, ["AIA_0171"])
    assert top.flatten().tolist() == pytest.approx([CONSTANT / SAMPLES] * 16)
    assert plain.to_physical(-prediction, ["AIA_0171"]).abs().max() == 0
    assert plain.to_normalized(10 * top, ["AIA_0171"]).unique().tolist() == [1.0]
    assert plain.to_normalized(torch.full((1, 2, 2), torch.nan), ["HMI_M"]).abs().max() == 0
    with pytest.raises(DatasetError, match=r"of shape \(..., 3, H, W\) for the channels"):
        plain.to_physical(prediction)


def test_constants_and_statistics_are_public(plain):
    assert plain.constants["AIA_0193"] == {"constant": CONSTANT, "transform": "sqrt"}
    assert plain.constants["HMI_M"] == {"constant": 1.0, "transform": "linear"}
    found = plain.statistics(samples=len(plain))
    pixels = torch.stack([plain[number][0] for number in range(len(plain))]).double()
    for channel, name in enumerate(CHANNELS):
        assert found[name].mean == pytest.approx(pixels[:, channel].mean().item())
        assert found[name].std == pytest.approx(pixels[:, channel].std(correction=0).item())
        assert found[name].frames == len(plain)
    assert plain.statistics(samples=3)["HMI_M"].frames == 3


def test_mean_and_std_match_the_statistics_of_the_dataset_or_part(plain):
    image = plain[0][0]
    assert plain.mean.shape == plain.std.shape == (3, 1, 1)
    found = plain.statistics().values()
    assert plain.mean.flatten().tolist() == pytest.approx([one.mean for one in found])
    assert plain.std.flatten().tolist() == pytest.approx([one.std for one in found])
    assert plain.mean is plain.mean  # cached, so the pixels are read only once
    part = plain.within([(plain.times[0], plain.times[0] + np.timedelta64(1, "s"))])
    standardized = (image - part.mean) / part.std
    assert standardized.mean(dim=(1, 2)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert standardized.std(dim=(1, 2), correction=0).tolist() == pytest.approx([1, 1, 1])


def test_arrays_convert_like_tensors(plain):
    levels = np.full((3, 4, 4), 0.5, np.float32)
    assert torch.equal(
        plain.to_physical(levels).nan_to_num(), plain.to_physical(torch.tensor(levels)).nan_to_num()
    )
