"""Flags: unusual properties of frames that are in the dataset.

A frame that cannot be a good observation is rejected and gets a status in the ledger. If a flare, a
short exposure, an eclipse or a maneuver can explain an unusual frame, it is kept and flagged, so
that users can exclude it. The measure behind each flag is also stored.

Flags are stored as one integer (``flags``) in the raw ledger, the frame table and the indexes: the
sum of 2**bit. Bits are never reused, so that old files keep their meaning.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag that a frame can have."""

    name: str

    bit: int
    """Bit of ``flags``, which is never reused."""

    measures: tuple[str, ...]
    """Columns of the frame table from which the flag is derived."""

    meaning: str


VOCABULARY: Final = (
    Flag(
        "provisional",
        0,
        ("quality",),
        "The frame is a near-real-time or quick-look version; no definitive version was "
        "available yet",
    ),
    Flag(
        "pointing_corrected",
        1,
        ("shift_x", "shift_y", "roll"),
        "The header states an unusual center, scale or roll, which processing corrected",
    ),
    Flag(
        "off_center",
        2,
        ("center_x", "center_y"),
        "The measured center of the disk is not in the middle of the frame",
    ),
    Flag(
        "odd_radius",
        3,
        ("radius",),
        "The measured radius of the disk differs from the standard radius",
    ),
    Flag("partial_disk", 4, ("visible",), "Part of the disk is dark: an eclipse or a transit"),
    Flag(
        "bright",
        5,
        ("brightness",),
        "The frame is brighter than the neighboring frames of the channel",
    ),
    Flag(
        "dim", 6, ("brightness",), "The frame is darker than the neighboring frames of the channel"
    ),
    Flag(
        "short_exposure",
        7,
        ("exposure",),
        "The exposure is shorter than half the usual one, as during flares, so the frame has "
        "more noise",
    ),
    Flag("missing_pixels", 8, ("missing",), "Some pixels of the raw frame have no data"),
    Flag(
        "unlike_neighbors",
        9,
        ("similarity",),
        "The picture differs from the neighboring frames of the channel",
    ),
    Flag(
        "bright_sky",
        10,
        ("sky",),
        "The sky beside the Sun is bright: particles hit the camera, or lines are damaged",
    ),
)
"""Every flag, in the order of the bits."""

FLAGS: Final = {flag.name: flag for flag in VOCABULARY}
"""Flags by name."""


def flag_mask(names: Iterable[str]) -> int:
    """Return the integer that encodes the given flags.

    Parameters
    ----------
    names
        Names from `FLAGS`.

    Raises
    ------
    ValueError
        If a name is not in `FLAGS`. The message names it.
    """
    mask = 0
    for name in names:
        if name not in FLAGS:
            raise ValueError(f"unknown flag {name!r}; choose from {', '.join(FLAGS)}")
        mask |= 1 << FLAGS[name].bit
    return mask


def flag_names(mask: int | None) -> tuple[str, ...]:
    """Return the names of the flags that an integer encodes. Bits without a name are ignored.

    Parameters
    ----------
    mask
        ``flags`` of a ledger, frame table or index. None (a file without flags) means no flags.
    """
    return tuple(flag.name for flag in VOCABULARY if mask is not None and mask >> flag.bit & 1)


def is_provisional(mask: int | None) -> bool:
    """Return whether a frame is a provisional (near-real-time or quick-look) version."""
    return "provisional" in flag_names(mask)
