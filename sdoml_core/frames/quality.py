"""Check AIA headers: QUALITY, exposure, and the state of the camera and the spacecraft."""

import math
from typing import Final

from sdoml_core.fits.header import Header

QUICKLOOK: Final = 1 << 30
"""Bit of QUALITY that marks near-real-time files. It does not describe the image quality."""

SHORTEST_EXPOSURE: Final = 0.01
"""Minimum exposure in seconds. No exposure of the science program is shorter. The original
SDOML-lite raises shorter EXPTIMEs to this value."""

LONGEST_EXPOSURE: Final = 12.0
"""Maximum exposure in seconds. A telescope takes two exposures every 12 s, so no exposure
can be longer."""

USUAL_EXPOSURE: Final = {
    94: 2.9,
    131: 2.9,
    171: 2.0,
    193: 2.0,
    211: 2.9,
    304: 2.9,
    335: 2.9,
    1600: 2.9,
    1700: 1.0,
}
"""Usual exposure in seconds, by wavelength in ångström. The camera takes shorter exposures during
flares."""

_QUALITY_BITS = {
    0: "no flat field",
    1: "no orbit data",
    2: "no ancillary science data",
    3: "no master pointing",
    4: "no limb fit",
    8: "pixels missing",
    9: "more than 1 % of pixels missing",
    10: "more than 5 % of pixels missing",
    11: "more than 25 % of pixels missing",
    12: "not in science pointing",
    13: "eclipse",
    14: "no sun presence",
    15: "safe mode",
    16: "dark image",
    17: "image stabilization loop open",
    18: "calibration image",
    20: "focus out of range",
    21: "register flag",
    30: "near-real-time",
    31: "image not available",
}

_STATES = {
    "ACS_MODE": ("SCIENCE", 12),
    "ACS_ECLP": ("NO", 13),
    "ACS_SUNP": ("YES", 14),
    "ACS_SAFE": ("NO", 15),
    "IMG_TYPE": ("LIGHT", 16),
    "AISTATE": ("CLOSED", 17),
}
"""Cards from which bits of QUALITY are derived (SDO user guide, section 7.7.6), the value of each
card in a science image, and the bit."""


def quality_reason(quality: int) -> str | None:
    """Explain why QUALITY marks a frame as not a science image.

    Parameters
    ----------
    quality
        The 32-bit QUALITY word, signed or unsigned. The SDO user guide, section 7.7.6,
        defines the bits.

    Returns
    -------
    Text such as ``"QUALITY 0x00002000: eclipse (bit 13)"``, or None for a good frame. A frame with
    only bit 30 set is good, because this bit means that the file was made in near-real time.
    """
    word = quality & 0xFFFFFFFF
    if not word & ~QUICKLOOK:
        return None
    bits = [bit for bit in range(32) if word >> bit & 1]
    reasons = ", ".join(
        f"{_QUALITY_BITS[bit]} (bit {bit})" if bit in _QUALITY_BITS else f"bit {bit}"
        for bit in bits
    )
    return f"QUALITY 0x{word:08X}: {reasons}"


def state_reason(header: Header) -> str | None:
    """Explain why the spacecraft or camera state rules out a science image.

    Bits 12 to 17 of QUALITY are derived from six cards. If a card reports a problem that QUALITY
    does not, the card takes precedence, because the bit would also reject the frame.

    Returns
    -------
    Text such as ``"ACS_ECLP is YES: eclipse"``, or None if all cards that are present are good.
    """
    for key, (good, bit) in _STATES.items():
        value = header.text(key)
        if value is not None and value.upper() != good:
            return f"{key} is {value}: {_QUALITY_BITS[bit]}"
    return None


def exposure_reason(exposure: float) -> str | None:
    """Return why an EXPTIME in seconds is implausible, or None if it is plausible."""
    if math.isfinite(exposure) and SHORTEST_EXPOSURE <= exposure <= LONGEST_EXPOSURE:
        return None
    return f"EXPTIME is {exposure:g} s, not between {SHORTEST_EXPOSURE:g} and {LONGEST_EXPOSURE:g}"


def is_short(exposure: float, wavelength: int) -> bool:
    """Return whether an exposure is shorter than half the usual exposure of the channel."""
    return exposure < USUAL_EXPOSURE.get(wavelength, 0.0) / 2
