"""The noise of processed pixels, compared with simulated photons, and the steps derived from it."""

import math
from datetime import date

import numpy as np
import pytest

from sdoml_core.channels import CHANNELS
from sdoml_core.frames.resample import Warp, sum_blocks
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.noise import (
    DN_PER_PHOTON,
    EXPOSURE,
    READ_NOISE,
    pixel_noise,
    steps_of,
)
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import normalize


def constants(channel="AIA_0193", *, constant=20_000.0, quiet=1200.0, resolution=512):
    transform = "sqrt" if channel.startswith("AIA") else "linear"
    statistics = ChannelStatistics(transform, constant, 1, quantiles={"0.75": quiet})
    day = date(2018, 8, 20)
    return Normalization("max", resolution, day, day, 1, {channel: statistics})


def added(steps: int, total: float) -> float:
    """Return the noise that rounding adds to the pixels."""
    return math.hypot(total, 1 / (steps * math.sqrt(12))) - total


@pytest.mark.parametrize("resolution", [1024, 512, 256])
@pytest.mark.parametrize("wavelength", [94, 193])
def test_noise_matches_simulated_photons(resolution, wavelength):
    channel, exposure, k = (
        f"AIA_{wavelength:04d}",
        EXPOSURE.get(wavelength, 2.9),
        1024 // resolution,
    )
    counts = 3.0 if wavelength == 94 else 150.0  # DN per camera pixel
    random = np.random.default_rng(7)
    photons = random.poisson(16 * counts / DN_PER_PHOTON[wavelength], (1024, 1024))
    read = random.normal(0, READ_NOISE[wavelength] / 4, (1024, 1024))
    image = (photons * DN_PER_PHOTON[wavelength] / 16 + read).astype(np.float32)
    # With this scale, pixels fall on all phases of the interpolation.
    frame = sum_blocks(
        image, resolution=resolution, warp=Warp(1.02), divisor=exposure, complete=True
    )
    quiet = counts * k * k / exposure
    known = constants(channel, constant=20 * quiet, quiet=quiet, resolution=resolution)
    y = normalize(frame, 20 * quiet, np.empty_like(frame))
    middle = y[resolution // 8 : -resolution // 8, resolution // 8 : -resolution // 8]
    assert float(middle.std()) == pytest.approx(pixel_noise(channel, known)[1], rel=0.05)


@pytest.mark.parametrize(("encoding", "fraction"), [("compact", 0.1), ("compact-fine", 0.01)])
@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("resolution", [64, 512, 1024])
def test_rounding_adds_at_most_the_given_fraction(encoding, fraction, channel, resolution):
    known = constants(channel, constant=1.0 if channel == "HMI_M" else 9e3, resolution=resolution)
    photon, total = pixel_noise(channel, known)
    assert 0 < photon <= total
    steps = steps_of(channel, encoding, known)
    assert added(steps, total) <= fraction * photon
    if channel == "HMI_M":
        assert steps % 255 == 0
    else:
        assert added(steps - 1, total) > fraction * photon


def test_photon_noise_of_193_matches_a_manual_calculation():
    # Half the square root of p/(16·t·c). Interpolation to 512 pixels divides this by 1.2.
    photon, _ = pixel_noise("AIA_0193", constants(constant=20_000.0))
    assert photon == pytest.approx(0.000613 / 1.2, rel=0.01)


def test_read_noise_is_left_out_without_quantiles():
    known = constants()
    bare = Normalization(
        "max", 512, known.first_day, known.last_day, 1,
        {"AIA_0193": ChannelStatistics("sqrt", 20_000.0, 1)},
    )  # fmt: skip
    photon, total = pixel_noise("AIA_0193", bare)
    assert photon == total == pixel_noise("AIA_0193", known)[0]


def test_hmi_fields_keep_source_levels_distinct():
    day = date(2018, 8, 20)
    sketch = Sketch.of(np.full((8, 8), 0.5, np.float32))
    known = fit(
        {"HMI_M": sketch},
        method="max",
        resolution=512,
        first_day=day,
        last_day=day,
        days=1,
        hmi_values="gauss",
    )
    # Neighboring levels differ by at least 0.38 G, which is 0.38/600 of the stored range.
    assert 1 / steps_of("HMI_M", "compact", known) < 0.38 / 600 / 2
