"""AIA synoptic frames as pixels: intensities per wavelength, exposure, degradation, flares."""

import math
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.absences import Condition, Quality
from sdoml_demo.render import solar_state
from sdoml_demo.render.fits_file import BLANK
from sdoml_demo.render.geometry import SIZE
from sdoml_demo.render.solar_state import REFERENCE_TIME
from sdoml_demo.render.sun import add_flare, corona, magnetic_field
from sdoml_demo.render.surface import off_limb_scale, paint_corona
from sdoml_demo.render.textures import PHOTON_NOISE, PROFILE_STEP, READ_NOISE, texture

PIXEL_SCALE = 2.4
"""Arcsec per pixel."""


REFERENCE_DAY = REFERENCE_TIME.date()
_REFERENCE_ACTIVITY = round(solar_state.activity(REFERENCE_DAY), 2)


@dataclass(frozen=True, slots=True)
class StandIn:
    """Recipe for a channel without a real frame: another channel's texture, and the magnetic field.

    Levels have the order of magnitude of real frames.
    """

    quiet: float
    """DN of the quiet disk center at full response and nominal exposure, at solar minimum."""
    contrast: float
    """Contrast of the texture."""
    active: float
    """Contrast of active regions."""
    network: float
    """Brightness of the magnetic network."""
    spots: float
    """Darkness of sunspots."""
    darkening: float = 0.0
    """Limb darkening; 0 for the chromosphere at 304 Å. The other channels have a sharp limb."""


@dataclass(frozen=True, slots=True)
class Passband:
    """Properties of one wavelength."""

    source: int
    """Wavelength of the real frame that gives the structure."""
    exposure: float
    """Nominal, seconds."""
    cycle: float
    """Relative increase of the quiet Sun at the maximum of the cycle."""
    second: float
    """Second of the minute at which the exposure begins."""
    camera: int
    wave_str: str
    stand_in: StandIn | None = None
    """None if ``source`` is the channel's own frame."""


PASSBANDS: dict[int, Passband] = {
    94: Passband(94, 2.9, 1.5, 1.12, 4, "94_THIN"),
    131: Passband(131, 2.9, 0.9, 6.62, 1, "131_THIN"),
    171: Passband(171, 2.0, 0.3, 9.34, 3, "171_THIN"),
    193: Passband(193, 2.0, 1.0, 4.84, 2, "193_THIN"),
    211: Passband(211, 2.9, 1.6, 9.63, 2, "211_THIN"),
    304: Passband(131, 2.9, 0.6, 5.13, 4, "304_THIN", StandIn(55.0, 0.9, 0.25, 0.4, 0.2)),
    335: Passband(335, 2.9, 2.0, 2.63, 1, "335_THIN"),
    1600: Passband(131, 2.9, 0.1, 6.12, 3, "1600", StandIn(105.0, 0.15, 0.03, 0.55, 0.8, 0.45)),
    1700: Passband(131, 1.2, 0.05, 4.72, 3, "1700", StandIn(1050.0, 0.10, 0.004, 0.30, 1.0, 0.68)),
}

FLARE_EXPOSURE = 0.23
"""Shortest exposure of the automatic exposure control, in seconds."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """Start and length of an exposure."""

    start: datetime
    seconds: float
    flare: float
    """Strength of the flare in progress; 0 without one."""

    @property
    def middle(self) -> datetime:
        """T_OBS."""
        return self.start + timedelta(seconds=self.seconds / 2)


def expose(minute: datetime, wavelength: int) -> Exposure:
    """Return the exposure of a nominal minute.

    During a flare, every second EUV frame has a shorter exposure, so that only a division by
    EXPTIME gives the right brightness.
    """
    band = PASSBANDS[wavelength]
    key = (f"{minute:%Y%m%d%H%M}", wavelength)
    window = (minute.hour * 60 + minute.minute) // 12
    chance = 0.03 * solar_state.activity(minute.date())
    draw = solar_state.uniform("flare", f"{minute:%Y%m%d}", window)
    age = (minute.minute % 12) / 12
    flare = (1 - age) * (0.3 + 0.7 * draw / chance) if draw < chance else 0.0
    short = flare > 0 and wavelength < 1600 and minute.minute % 4 == 0
    nominal = FLARE_EXPOSURE if short else band.exposure
    return Exposure(
        start=minute + timedelta(milliseconds=round(band.second * 100) * 10),
        seconds=round(nominal + 0.0006 * (solar_state.uniform("exposure", *key) - 0.3), 6),
        flare=flare,
    )


@cache
def _profile(wavelength: int) -> NDArray[np.float64]:
    """Return the radial profile of a channel, 1 at the center.

    Powers are rounded far above the last bit, where platforms differ.
    """
    band = PASSBANDS[wavelength]
    source = texture(band.source).profile
    if band.stand_in is None:
        return source
    darkening = band.stand_in.darkening
    limb, peak = round(1 / PROFILE_STEP), int(np.argmax(source))
    highest = float(source[peak])
    profile = np.empty_like(source)
    for index, value in enumerate(source.tolist()):
        radius = index * PROFILE_STEP
        if not darkening and index <= peak:  # 304 Å: a flat disk with a bright limb
            profile[index] = value**0.4
        elif not darkening:  # and little emission above it
            profile[index] = highest**0.4 * (value / highest) ** 1.3
        elif index < limb:
            profile[index] = 1 - darkening * (1 - math.sqrt(1 - radius * radius))
        else:  # stray light and the edge of the aperture, as in real 1700 Å frames
            aperture = min(max((1.63 - radius) * 8, 0.02), 1.0)
            profile[index] = 0.118 / (1 + 5.2 * (radius - 1)) * aperture
    return np.round(profile, 9)


def quiet_level(day: date, wavelength: int) -> float:
    """Return the DN of the quiet disk center at nominal exposure.

    On `REFERENCE_DAY` it equals that of the channel's real frame, if there is one. It changes from
    day to day with the solar cycle and the degradation of the instrument.
    """
    band = PASSBANDS[wavelength]
    level = round(solar_state.activity(day), 2)
    bright = (1 + band.cycle * level) * solar_state.degradation(day, wavelength)
    if band.stand_in is not None:
        return band.stand_in.quiet * bright
    then = (1 + band.cycle * _REFERENCE_ACTIVITY) * solar_state.degradation(
        REFERENCE_DAY, wavelength
    )
    return texture(wavelength).center * band.exposure * bright / then


def render_pixels(
    minute: datetime, wavelength: int, condition: Condition, *, seed: int
) -> NDArray[np.int32]:
    """Render the image of a nominal minute, in sixteenths of a DN.

    Parameters
    ----------
    minute
        Minute in the file name.
    wavelength
        Wavelength in ångström.
    condition
        Result of `absences.condition`. For example, a dark frame shows no Sun.
    seed
        Seed of the noise.

    Returns
    -------
    int32, shape (1024, 1024), south up; `BLANK` where there is no data.
    """
    band, exposure, day = PASSBANDS[wavelength], expose(minute, wavelength), minute.date()
    scale = quiet_level(day, wavelength) * (exposure.seconds / band.exposure)
    if condition.quality & (Quality.DARK.value | Quality.ECLIPSE.value):
        scale *= 0.0
    radius = solar_state.observe(minute).rsun_obs / PIXEL_SCALE
    tone = corona(minute, radius, band.source)
    if exposure.flare:
        tone = add_flare(tone, minute, radius, band.source, exposure.flare)
    active = solar_state.region_brightness(day)
    made = band.stand_in or StandIn(0.0, 1.0, 1.0, 0.0, 0.0)
    sharp = (1 - made.darkening) * scale if made.darkening else 0.0
    magnetic = made.network > 0 or made.spots > 0
    out = np.empty((SIZE, SIZE), np.int32)
    paint_corona(
        tone,
        magnetic_field(minute, radius) if magnetic else tone,
        radius,
        off_limb_scale(texture(band.source).radius, radius) * radius / texture(band.source).radius,
        _profile(wavelength) * scale,
        np.array([made.contrast, made.active * active]),
        np.array([made.network, made.spots, sharp]),
        np.array([READ_NOISE, PHOTON_NOISE[wavelength]]),
        np.uint64(seed),
        out,
    )
    if condition.quality & Quality.BLOCKS_MISSING.value:
        first = 32 * (seed % 28)
        out[first : first + 64] = BLANK
    elif condition.spotted:
        for k in range(1 + seed % 5):
            place = solar_state.digest("spot", seed, k)
            out[place % SIZE, (place >> 20) % SIZE] = BLANK
    return out
