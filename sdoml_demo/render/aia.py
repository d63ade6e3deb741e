"""AIA synoptic frames, as pixels: intensities per wavelength, exposure, degradation, flares."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.absences import Condition, Quality
from sdoml_demo.render import solar_state as sky
from sdoml_demo.render.active_regions import paint_region
from sdoml_demo.render.planes import PROFILE_STEP, SIZE, planes
from sdoml_demo.render.sun import Sun, pattern, see
from sdoml_demo.render.surface import TONE_STEP, TONES, paint_corona

BLANK = -(2**31)
PIXEL_SCALE = 2.4
"""Arcsec per pixel."""


@dataclass(frozen=True, slots=True)
class Passband:
    """How one wavelength sees the Sun. Levels are of the order that real frames show."""

    quiet: float
    """DN of the quiet disk centre at full response and nominal exposure."""
    exposure: float
    """Nominal, seconds."""
    active: float
    """By how much the whole Sun gains at the maximum of the cycle."""
    contrast: float
    """Power of the coronal texture."""
    limb: float
    """Power of the radial profile on the disk: how bright the limb is."""
    off_limb: float
    """The same beyond the limb: how fast the corona ends."""
    network: float
    """How much the magnetic network shines."""
    glow: float
    """How much active regions shine."""
    spots: float
    """How dark sunspots are."""
    darkening: float
    """Limb darkening; 0 for the corona, which has none. Such channels have a sharp limb."""
    second: float
    """When in its minute the frame begins."""
    camera: int
    wave_str: str


PASSBANDS: dict[int, Passband] = {
    94: Passband(2.0, 2.9, 1.5, 0.50, 0.6, 0.70, 0.04, 16.0, 0.0, 0.0, 1.12, 4, "94_THIN"),
    131: Passband(9.0, 2.9, 0.9, 0.70, 0.7, 1.15, 0.15, 8.0, 0.0, 0.0, 6.62, 1, "131_THIN"),
    171: Passband(310.0, 2.0, 0.3, 0.80, 0.7, 1.25, 0.10, 4.5, 0.0, 0.0, 9.34, 3, "171_THIN"),
    193: Passband(340.0, 2.0, 1.0, 1.00, 1.0, 1.00, 0.00, 5.5, 0.0, 0.0, 4.84, 2, "193_THIN"),
    211: Passband(140.0, 2.9, 1.6, 1.20, 0.9, 0.90, 0.00, 7.0, 0.0, 0.0, 9.63, 2, "211_THIN"),
    304: Passband(55.0, 2.9, 0.6, 0.55, 0.5, 2.20, 0.40, 3.5, 0.2, 0.0, 5.13, 4, "304_THIN"),
    335: Passband(10.0, 2.9, 2.0, 0.80, 0.6, 0.80, 0.05, 10.0, 0.0, 0.0, 2.63, 1, "335_THIN"),
    1600: Passband(105.0, 2.9, 0.1, 0.10, 0.0, 0.0, 0.55, 0.7, 0.8, 0.45, 6.12, 3, "1600"),
    1700: Passband(1050.0, 1.0, 0.05, 0.05, 0.0, 0.0, 0.22, 0.1, 1.0, 0.68, 4.72, 3, "1700"),
}

FLARE_EXPOSURE = 0.23
"""Seconds: what the automatic exposure control goes down to."""

_READ_NOISE, _PHOTON_NOISE, _BACKGROUND = 0.30, 0.27, 0.42


@dataclass(frozen=True, slots=True)
class Exposure:
    """When and for how long a frame was exposed."""

    start: datetime
    seconds: float
    flare: float
    """Strength of the flare that is in progress; 0 without."""

    @property
    def middle(self) -> datetime:
        """T_OBS."""
        return self.start + timedelta(seconds=self.seconds / 2)


def expose(minute: datetime, wavelength: int) -> Exposure:
    """Begin and length of the exposure of a nominal minute.

    In a flare every second frame of the EUV channels is cut short, so that brightness per second
    can be told only by those who divide by EXPTIME.
    """
    band = PASSBANDS[wavelength]
    key = (f"{minute:%Y%m%d%H%M}", wavelength)
    window = (minute.hour * 60 + minute.minute) // 12
    chance = 0.03 * sky.activity(minute.date())
    draw = sky.uniform("flare", f"{minute:%Y%m%d}", window)
    age = (minute.minute % 12) / 12
    flare = (1 - age) * (0.3 + 0.7 * draw / chance) if draw < chance else 0.0
    short = flare > 0 and wavelength < 1600 and minute.minute % 4 == 0
    nominal = FLARE_EXPOSURE if short else band.exposure
    return Exposure(
        start=minute + timedelta(milliseconds=round(band.second * 100) * 10),
        seconds=round(nominal + 0.0006 * (sky.uniform("exposure", *key) - 0.3), 6),
        flare=flare,
    )


@lru_cache(maxsize=64)
def _curves(wavelength: int, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radial profile (1 at the centre) and tone curve of a passband at an activity level.

    Powers are rounded far above the last bit, where platforms differ.
    """
    band = PASSBANDS[wavelength]
    source = planes().profile
    limb = round(1 / PROFILE_STEP)
    profile = np.empty_like(source)
    for index, value in enumerate(source.tolist()):
        if band.darkening:
            radius = index * PROFILE_STEP
            if index < limb:
                profile[index] = 1 - band.darkening * (1 - math.sqrt(1 - radius * radius))
            else:  # stray light and the faint chromosphere
                profile[index] = 0.02 / (1 + ((radius - 1) * 14) ** 2)
        else:
            edge = float(source[limb])
            profile[index] = (
                value**band.limb
                if index < limb
                else edge**band.limb * (value / edge) ** band.off_limb
            )
    # the real frame is of a quiet month: what shines in it grows with the cycle
    tones = np.array(
        [
            (min(t, 1.6) + max(t - 1.6, 0.0) * (0.5 + 0.6 * level)) ** band.contrast
            for t in (index * TONE_STEP for index in range(TONES))
        ]
    )
    return np.round(profile, 9), np.round(tones, 9)


def render_pixels(
    minute: datetime, wavelength: int, condition: Condition, *, seed: int
) -> NDArray[np.int32]:
    """The image of a nominal minute, in sixteenths of a DN.

    Parameters
    ----------
    minute
        As in the file name.
    wavelength
        In ångström.
    condition
        From `absences.condition`; a dark frame, for one, shows no Sun.
    seed
        Of the noise.

    Returns
    -------
    int32, shape (1024, 1024), south up; `BLANK` where there is no data.
    """
    band = PASSBANDS[wavelength]
    exposure = expose(minute, wavelength)
    day = minute.date()
    level = round(sky.activity(day), 2)
    profile, tones = _curves(wavelength, level)
    scale = (
        band.quiet
        * (1 + band.active * level)
        * sky.degradation(day, wavelength)
        * (exposure.seconds / band.exposure)
    )
    if condition.quality & (Quality.DARK.value | Quality.ECLIPSE.value):
        scale *= 0.0
    radius = sky.observe(minute).rsun_obs / PIXEL_SCALE
    seen = see(minute, radius)
    glow = seen.glow
    if exposure.flare and seen.regions:
        glow = _with_flare(seen, radius, exposure.flare)
    out = np.empty((SIZE, SIZE), np.int32)
    sharp = (1 - band.darkening) * scale if band.darkening else 0.0
    paint_corona(
        seen.tone,
        seen.gauss,
        glow,
        radius,
        profile * scale,
        tones,
        np.array([band.network, band.glow, band.spots, sharp]),
        np.array([_READ_NOISE, _PHOTON_NOISE, _BACKGROUND]),
        np.uint64(seed),
        out,
    )
    if condition.quality & Quality.BLOCKS_MISSING.value:
        first = 32 * (seed % 28)
        out[first : first + 64] = BLANK
    elif condition.spotted:
        for k in range(1 + seed % 5):
            place = sky.digest("spot", seed, k)
            out[place % SIZE, (place >> 20) % SIZE] = BLANK
    return out


def _with_flare(seen: Sun, radius: float, strength: float) -> NDArray[np.float32]:
    """The glow with a small, very bright source in the strongest active region."""
    strongest = max(seen.regions, key=lambda region: abs(region.strength))
    source = replace(strongest, size=strongest.size * 0.3, strength=12_000 * strength)
    glow, unused = seen.glow.copy(), np.zeros_like(seen.glow)
    paint_region(radius, source.numbers, pattern(source.seed), unused, glow)
    return glow
