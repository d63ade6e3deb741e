"""The Sun of one minute as planes, which all wavelengths and the magnetogram share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from sdoml_demo.render import solar_state as sky
from sdoml_demo.render.active_regions import PATTERN, draw_region, paint_region
from sdoml_demo.render.planes import SIZE, planes
from sdoml_demo.render.surface import turn_field, turn_texture

_REMEMBERED = 6
"""Minutes kept, 12 MB each: clients ask for all wavelengths of a slot at about the same time."""


@dataclass(frozen=True, slots=True)
class Sun:
    """Planes of one minute; float32, shape (1024, 1024), south up. Not to be written to."""

    tone: NDArray[np.float32]
    """Coronal texture, about 1 on the quiet Sun."""
    gauss: NDArray[np.float32]
    """Field along the line of sight, 0 off the disk."""
    glow: NDArray[np.float32]
    """Hot plasma of the active regions, about 1 in their cores."""
    regions: tuple[sky.Region, ...]


def see(minute: datetime, radius: float) -> Sun:
    """The Sun at a minute, its disk ``radius`` pixels large and centred in the image."""
    return _once(minute, radius)()


class _Once:
    """Computes on the first call; concurrent callers wait for it and share the result."""

    def __init__(self, compute: Callable[[], Sun]) -> None:
        self._compute = compute
        self._lock = Lock()
        self._result: Sun | None = None

    def __call__(self) -> Sun:
        with self._lock:
            if self._result is None:
                self._result = self._compute()
            return self._result


@lru_cache(maxsize=_REMEMBERED)
def _once(minute: datetime, radius: float) -> _Once:
    return _Once(lambda: _see(minute, radius))


@lru_cache(maxsize=64)
def pattern(seed: int) -> NDArray[np.float32]:
    """The pattern of an active region; float32, shape (2, `PATTERN`, `PATTERN`)."""
    result = np.empty((2, PATTERN, PATTERN), np.float32)
    draw_region(np.uint64(seed), result)
    return result


def _see(minute: datetime, radius: float) -> Sun:
    source, found = planes(), sky.regions(minute)
    gauss, glow = magnetic(minute, radius)
    tone = np.empty((SIZE, SIZE), np.float32)
    turn_texture(source.texture, source.texture_radius, radius, *sky.turned(minute), tone)
    return Sun(tone=tone, gauss=gauss, glow=glow, regions=found)


def magnetic(minute: datetime, radius: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The planes ``gauss`` and ``glow`` alone, for the magnetogram's larger disk."""
    source, found = planes(), sky.regions(minute)
    gauss, glow = (np.zeros((SIZE, SIZE), np.float32) for _ in range(2))
    for region in found:
        paint_region(radius, region.numbers, pattern(region.seed), gauss, glow)
    turn_field(
        source.field,
        source.field_geometry,
        source.field_turn,
        radius,
        *sky.turned(minute),
        gauss,
    )
    return gauss, glow
