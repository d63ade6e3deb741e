"""Pointing of an AIA frame: the position of the Sun according to the header, and its limits.

The archive serves level 1.5 frames, which are registered: the Sun is in the middle, a pixel is 2.4″
wide, and solar north is up. Such frames use a faster code path. If a header differs slightly, the
frame was not registered. Its center, scale and roll are those of the telescope, and the warp
corrects them. If a header differs more, it describes a maneuver or is wrong, and the frame is
rejected.

The limits leave a margin around the master pointing in level 1 headers, which registration
corrects. They are based on real frames from 2014, 2018 and 2026. In these frames, ``X0_MP`` and
``Y0_MP`` are within 15 pixels of the middle of 4096 (3.7 of 1024), ``IMSCL_MP`` is 0.5995″ to
0.6129″ for a pixel of 0.6″ (+2.2%), and ``INST_ROT`` is at most 0.15°.
"""

import math
from dataclasses import dataclass
from typing import Final

from sdoml_core.errors import CorruptFrameError
from sdoml_core.fits.header import Header
from sdoml_core.frames.grid import PIXEL, SIZE

MIDDLE: Final = (SIZE - 1) / 2
"""Center of the Sun in a registered frame, 0-based, on both axes."""

MAX_SHIFT: Final = 12.5
"""Maximum shift in pixels (30″): three times what registration corrects. Off-point maneuvers move
the Sun by arcminutes."""

MAX_SCALE: Final = 0.03
"""Maximum relative difference of the scale from 2.4″. Registration corrects up to 2.2%."""

MAX_ROLL: Final = 1.0
"""Maximum roll in degrees. Registration corrects up to 0.15°. Roll maneuvers far exceed 1°."""

MAX_RSUN: Final = 1.0
"""Maximum difference between RSUN_OBS and the ephemeris, in arcseconds. SDO's orbit accounts for
0.27″. A different solar radius (695,700 km instead of 696,000 km) accounts for 0.42″. A difference
of 1″ moves the limb by 0.4 pixels of 1024."""

_SAME_PLACE: Final = 0.01  # pixels, up to the limb; a tenth of the blur of bilinear sampling
_SAME_SCALE: Final = _SAME_PLACE / (SIZE / 2)
_SAME_ROLL: Final = math.degrees(_SAME_PLACE / (SIZE / 2))


@dataclass(frozen=True, slots=True)
class Pointing:
    """Position of the Sun in a frame, from its header."""

    x: float = MIDDLE
    """Column of the center of the Sun, 0-based."""

    y: float = MIDDLE
    """Row of the center of the Sun, 0-based. Row 0 is the southernmost."""

    pixel: float = PIXEL
    """Arcseconds along each side of a pixel."""

    roll: float = 0.0
    """CROTA2: degrees from the column axis to solar north, counterclockwise."""

    @property
    def registered(self) -> bool:
        """Whether every pixel is within 0.01 pixels of its position in a registered frame."""
        return (
            math.hypot(self.x - MIDDLE, self.y - MIDDLE) <= _SAME_PLACE
            and abs(self.pixel / PIXEL - 1) <= _SAME_SCALE
            and abs(self.roll) <= _SAME_ROLL
        )


REGISTERED: Final = Pointing()
"""The pointing of the archive's registered frames."""


def read_pointing(header: Header) -> Pointing:
    """Read CRPIX, CRVAL, CDELT and CROTA2.

    Raises
    ------
    CorruptFrameError
        If a card is missing or not a number, or if pixels are not square. A missing CROTA2 or CRVAL
        counts as 0, as in the FITS standard.
    """
    crpix = [_number(header, f"CRPIX{axis}") for axis in (1, 2)]
    crval = [_number(header, f"CRVAL{axis}", 0.0) for axis in (1, 2)]
    cdelt = [_number(header, f"CDELT{axis}") for axis in (1, 2)]
    roll = _number(header, "CROTA2", 0.0)
    if cdelt[0] <= 0 or abs(cdelt[0] - cdelt[1]) > _SAME_SCALE * cdelt[0]:
        raise CorruptFrameError(f"pixels of {cdelt[0]:g}″ × {cdelt[1]:g}″ are not square")
    cosine, sine = math.cos(math.radians(roll)), math.sin(math.radians(roll))
    # Offset of the Sun from the reference pixel.
    east, north = -crval[0] / cdelt[0], -crval[1] / cdelt[1]
    return Pointing(
        crpix[0] - 1 + cosine * east + sine * north,
        crpix[1] - 1 - sine * east + cosine * north,
        cdelt[0],
        (roll + 180) % 360 - 180,
    )


def pointing_reason(pointing: Pointing) -> str | None:
    """Return why a frame with this pointing is rejected, or None if it is usable."""
    shift = math.hypot(pointing.x - MIDDLE, pointing.y - MIDDLE)
    if shift > MAX_SHIFT:
        return (
            f"the header puts the Sun {shift:.1f} pixels off center, more than {MAX_SHIFT:g} "
            "(CRPIX, CRVAL)"
        )
    if abs(pointing.pixel / PIXEL - 1) > MAX_SCALE:
        return f"pixels of {pointing.pixel:g}″ differ from {PIXEL}″ by more than {MAX_SCALE:.0%}"
    if abs(pointing.roll) > MAX_ROLL:
        return f"rolled by {pointing.roll:.2f}°, more than {MAX_ROLL:g}° (CROTA2)"
    return None


def radius_reason(rsun_obs: float, expected: float) -> str | None:
    """Return why RSUN_OBS contradicts the ephemeris radius, or None if it is plausible."""
    if abs(rsun_obs - expected) <= MAX_RSUN:
        return None
    return f"RSUN_OBS is {rsun_obs:.2f}″, but the ephemeris says {expected:.2f}″"


def _number(header: Header, key: str, default: float | None = None) -> float:
    value = default if key not in header.cards and default is not None else header.number(key)
    if value is None or not math.isfinite(value):
        raise CorruptFrameError(f"{key} is {header.text(key) or 'missing'}")
    return value
