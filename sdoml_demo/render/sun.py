"""The Sun of one minute as planes, which all wavelengths share."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.render import solar_state
from sdoml_demo.render.active_regions import PATTERN, draw_region, paint_field, paint_plasma
from sdoml_demo.render.geometry import SIZE
from sdoml_demo.render.solar_state import Region
from sdoml_demo.render.surface import turn_field, turn_texture
from sdoml_demo.render.textures import STAMPS, field, texture

Plane = NDArray[np.float32]
"""Shape (1024, 1024), south up. Shared, so it must not be changed."""

_REMEMBERED = 24
"""Cached planes, 4 MB each. Clients request all wavelengths of a slot at about the same time."""

_TYPICAL_GAUSS = 1200.0
"""Strength at which an active region is as bright as those of the real frames."""

_FLARE_SIZE, _FLARE_STRENGTH = 0.3, 12.0
"""Size and brightness of a flare of strength 1, relative to an active region of a real frame."""


class _Once:
    """Computes a value on the first call. Concurrent callers wait for it and share the result."""

    def __init__(self, compute: Callable[[], Plane]) -> None:
        self._compute = compute
        self._lock = Lock()
        self._result: Plane | None = None

    def __call__(self) -> Plane:
        with self._lock:
            if self._result is None:
                self._result = self._compute()
            return self._result


@lru_cache(maxsize=_REMEMBERED)
def _tone_once(minute: datetime, radius: float, source: int) -> _Once:
    return _Once(lambda: _tone(minute, radius, source))


@lru_cache(maxsize=_REMEMBERED)
def _field_once(minute: datetime, radius: float) -> _Once:
    return _Once(lambda: line_of_sight_field(minute, radius))


def corona(minute: datetime, radius: float, source: int) -> Plane:
    """Return the brightness of the corona relative to the quiet Sun.

    Parameters
    ----------
    minute
        UTC.
    radius
        Radius of the disk in pixels. Its center is that of the image.
    source
        Wavelength of the real frame.
    """
    return _tone_once(minute, radius, source)()


def magnetic_field(minute: datetime, radius: float) -> Plane:
    """Return the line-of-sight field in gauss, 0 off the disk. Results are cached."""
    return _field_once(minute, radius)()


def line_of_sight_field(minute: datetime, radius: float) -> Plane:
    """Compute the line-of-sight field. It is not cached: magnetograms need it only once."""
    source = field(solar_state.region_brightness(minute.date()))
    gauss = np.zeros((SIZE, SIZE), np.float32)
    for region in solar_state.regions(minute):
        shape = pattern(region.seed)
        paint_field(radius, region.vectors, region.size, region.strength, shape, gauss)
    turn_field(source.gauss, source.geometry, radius, *solar_state.turned(minute), gauss)
    return gauss


@lru_cache(maxsize=64)
def pattern(seed: int) -> NDArray[np.float32]:
    """Return the field pattern of an active region; float32, shape (`PATTERN`, `PATTERN`)."""
    result = np.empty((PATTERN, PATTERN), np.float32)
    draw_region(np.uint64(seed), result)
    return result


def _tone(minute: datetime, radius: float, source: int) -> Plane:
    frame = texture(source)
    tone = np.empty((SIZE, SIZE), np.float32)
    turn_texture(frame.tone, frame.radius, radius, *solar_state.turned(minute), tone)
    for region in solar_state.regions(minute):
        _paint_plasma(radius, region, abs(region.strength) / _TYPICAL_GAUSS, source, tone)
    return tone


def add_flare(tone: Plane, minute: datetime, radius: float, source: int, strength: float) -> Plane:
    """Return a copy with a small, very bright source in the strongest active region.

    Without any region there is no flare, and the plane itself is returned.
    """
    found = solar_state.regions(minute)
    if not found:
        return tone
    strongest = max(found, key=lambda region: abs(region.strength))
    small = replace(strongest, size=strongest.size * _FLARE_SIZE)
    flaring = tone.copy()
    _paint_plasma(radius, small, _FLARE_STRENGTH * strength, source, flaring)
    return flaring


def _paint_plasma(radius: float, region: Region, factor: float, source: int, tone: Plane) -> None:
    stamp = texture(source).stamps[region.seed % STAMPS]
    vectors = region.vectors
    if region.seed & 1 << 20:
        vectors[6:] *= -1  # flipped vertically, for variety
    paint_plasma(radius, vectors, region.size, factor, stamp, tone)
