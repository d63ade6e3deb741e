"""Noise of processed pixels, and the quantization steps of the compact encodings.

With the chosen step, rounding adds a given fraction of the photon noise to the total noise of a
pixel on the quiet disk. The noise is a property of the instrument, so it is computed rather
than measured in frames. `benchmarks/encoding.py` compares it with the noise of real frames.

**AIA.** A processed pixel is the sum of k×k samples of a synoptic frame, where k = 1024/n, divided
by the exposure time t. A sample is the mean of 16 camera pixels. With D in DN per camera pixel, the
variance of one camera pixel is p·D + r² (photon noise and read noise), and the variance of the sum
is::

    var(x) = (k²·V)² · (p·D + r²) / (16·t²)

V² is the variance of the mean of k×k bilinear samples with unit variance. Without interpolation, it
would be 1/k². The transform y = √(x/c) divides the standard deviation by 2·√(c·x), so the photon
noise of y is the same at any brightness.

p, in DN per photon, is the column DNPERPHT of AIA's error table, version 3 (SolarSoft,
``aia_V3_error_table.txt``). r is the read noise of each camera from Boerner et al. (2012), Solar
Physics 275, 41, table 6. D is the 0.75 quantile of the fit, which is about the median of the disk,
because the disk covers half of the frame. Exposure times are the nominal values of the synoptic
program. The degradation factor is 1, which is the value at launch. Later, the same brightness
corresponds to fewer photons and more noise, so the step is never too large.

**HMI.** The catalog rounds to 8 bits. The rounding error of a level, 1/(255·√12), replaces the
photon noise and is averaged over the samples of a pixel in the same way. If frames contain levels,
the number of steps is a multiple of 255, so that each source level is stored exactly.
"""

import math
from typing import Final

import numpy as np

from sdoml_core.channels import CHANNELS
from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.frames.grid import JPG_PIXEL, PIXEL, SIZE
from sdoml_core.frames.magnetogram import level_to_gauss
from sdoml_core.normalization.constants import Normalization

ADDED_NOISE: Final[dict[CompactEncoding, float]] = {"compact": 0.1, "compact-fine": 0.01}
"""Noise that rounding adds, as a fraction of the photon noise of a pixel on the quiet disk."""

DN_PER_PHOTON: Final = {
    94: 1.975, 131: 1.473, 171: 1.122, 193: 0.962, 211: 0.880, 304: 0.611, 335: 0.576,
    1600: 0.120, 1700: 0.113,
}  # fmt: skip

READ_NOISE: Final = {
    94: 1.14, 131: 1.18, 171: 1.15, 193: 1.20, 211: 1.20, 304: 1.14, 335: 1.18,
    1600: 1.15, 1700: 1.15,
}  # fmt: skip
"""Read noise in DN per camera pixel. Cameras 1 to 4 observe (131, 335), (193, 211),
(171, 1600, 1700) and (94, 304)."""

EXPOSURE: Final = {171: 2.0, 193: 2.0, 1700: 1.0}
"""Nominal exposure times in s. All other wavelengths use 2.9 s."""

QUIET_DISK: Final = "0.75"
"""Quantile of a channel's pixels that represents the quiet disk."""

LEVEL_ROUNDING: Final = 1 / (255 * math.sqrt(12))


def steps_of(channel: str, encoding: CompactEncoding, normalization: Normalization) -> int:
    """Return the number of quantization steps between 0 and 1, which is the inverse of the step.

    Parameters
    ----------
    channel
        Name of the channel.
    encoding
        ``compact`` or ``compact-fine``.
    normalization
        Constants with which the pixels are normalized.

    Raises
    ------
    NormalizationError
        If the normalization has no constant for the channel.
    """
    photon, total = pixel_noise(channel, normalization)
    added = ADDED_NOISE[encoding] * photon
    # Rounding has a standard deviation of step/√12. Variances add.
    step = math.sqrt(12 * ((total + added) ** 2 - total**2))
    if normalization.transform(channel) == "linear":
        return 255 * math.ceil(1 / (255 * step))
    return math.ceil(1 / step)


def pixel_noise(channel: str, normalization: Normalization) -> tuple[float, float]:
    """Return the photon noise and the total noise of a pixel on the quiet disk, in units of y.

    Parameters
    ----------
    channel, normalization
        As in `steps_of`.

    Returns
    -------
    Standard deviations without and with read noise. For HMI, both are the rounding noise of the
    catalog.
    """
    constant = normalization.constant(channel)
    k = SIZE / normalization.resolution
    if CHANNELS[channel].instrument == "HMI":
        averaged = LEVEL_ROUNDING * _mean_variance(k, spacing=PIXEL / JPG_PIXEL)
        if normalization.transform(channel) == "field":
            low, high = level_to_gauss(np.array([127, 128]) / 255)
            averaged *= 255 * float(high - low) / (2 * constant)
        return averaged, averaged
    wavelength = CHANNELS[channel].wavelength
    exposure = EXPOSURE.get(wavelength, 2.9)
    scale = k * k * _mean_variance(k, spacing=1) / 4
    photon = math.sqrt(scale**2 * DN_PER_PHOTON[wavelength] / (k * k * exposure) / (4 * constant))
    quiet = (normalization.channels[channel].quantiles or {}).get(QUIET_DISK, 0)
    read = 0.0
    if quiet > 0:
        read = scale * READ_NOISE[wavelength] / exposure / (2 * math.sqrt(constant * quiet))
    return photon, math.hypot(photon, read)


def _mean_variance(count: float, *, spacing: float) -> float:
    """Return the variance of the mean of bilinear samples along one axis, for unit variance.

    The samples are `spacing` pixels apart and have a random phase. The covariance of two samples is
    the autocorrelation of the triangular kernel, which is a cubic B-spline. For two axes,
    the standard deviation is the product of two equal standard deviations, which is this variance.
    """
    whole = int(count)
    covariance = sum((whole - j) * _cubic_spline(j * spacing) for j in range(1, whole))
    return (whole * _cubic_spline(0) + 2 * covariance) / whole**2


def _cubic_spline(x: float) -> float:
    if x < 1:
        return 2 / 3 - x**2 + x**3 / 2
    return (2 - x) ** 3 / 6 if x < 2 else 0.0
