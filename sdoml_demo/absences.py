"""Decide which frames are missing or have bad quality, from their names alone.

The rates are similar to those of the mission: 2.3 % of AIA frames are unavailable for all reasons
together, 1700 Å is often missing at the top of the hour (when 4500 Å is taken), a few HMI images
are black, and no frames exist before the first day.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum

from sdoml_core.channels import Channel
from sdoml_dagster.archive.tree import file_name
from sdoml_demo.render.solar_state import uniform

MISSION_START = date(2010, 5, 13)

MISSING_AIA = 0.02
MISSING_HMI = 0.01
MISSING_1700_AT_THE_HOUR = 0.5
BAD_QUALITY = 0.008
QUICKLOOK = 0.01
SPOTTED = 0.005
BLACK_HMI = 0.005
QUICKLOOK_LABEL = 0.05
RECENT = date(2020, 1, 1)
"""From this day on, a frame can be near-real-time data that was never replaced."""

QUICKLOOK_BIT = 1 << 30


class Quality(Enum):
    """QUALITY values of bad frames."""

    GOOD = 0
    BLOCKS_MISSING = 1 << 8 | 1 << 9
    NOT_SCIENCE_POINTING = 1 << 12
    ECLIPSE = 1 << 13 | 1 << 14
    SAFE_MODE = 1 << 12 | 1 << 15
    DARK = 1 << 16
    LOOP_OPEN = 1 << 17
    CALIBRATION = 1 << 18


_BAD = tuple(quality for quality in Quality if quality is not Quality.GOOD)


@dataclass(frozen=True, slots=True)
class Condition:
    """State of a frame."""

    quality: int = 0
    """The QUALITY card (AIA)."""
    spotted: bool = False
    """A few 4×4 cells of the camera have no data: BLANK pixels, although QUALITY is good."""
    black: bool = False
    """The HMI image is black."""
    quicklook_label: bool = False
    """The HMI label says "Quick-Look"."""


PERFECT = Condition()


def exists(channel: Channel, minute: datetime) -> bool:
    """Return whether a frame can exist: after launch, at the instrument's cadence."""
    if minute.astimezone(UTC).date() < MISSION_START:
        return False
    return minute.minute % (15 if channel.instrument == "HMI" else 2) == 0


def condition(channel: Channel, minute: datetime) -> Condition | None:
    """Return the state of a frame, or None if the archive does not have it."""
    name = file_name(channel, minute)
    if channel.instrument == "HMI":
        if uniform("missing", name) < MISSING_HMI:
            return None
        recent = minute.date() >= RECENT
        return Condition(
            black=uniform("black", name) < BLACK_HMI,
            quicklook_label=recent and uniform("label", name) < QUICKLOOK_LABEL,
        )
    at_the_hour = channel.wavelength == 1700 and minute.minute == 0
    if uniform("missing", name) < (MISSING_1700_AT_THE_HOUR if at_the_hour else MISSING_AIA):
        return None
    quality = 0
    if uniform("quality", name) < BAD_QUALITY:
        quality = _BAD[int(len(_BAD) * uniform("bits", name))].value
    if minute.date() >= RECENT and uniform("quicklook", name) < QUICKLOOK:
        quality |= QUICKLOOK_BIT
    return Condition(quality=quality, spotted=uniform("spots", name) < SPOTTED)
