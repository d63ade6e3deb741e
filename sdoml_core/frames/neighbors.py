"""Compare the brightness and the similarity of a frame with those of its neighbors in time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sdoml_core.frames.content import correlate

BRIGHTNESS_RATIO: Final = 1.5
"""Ratio of the level of a frame to the level of its neighbors, or the inverse, above which the
frame is flagged. A flare hardly affects the median of the disk."""


LEAST_SIMILAR: Final = 0.9
"""Minimum correlation with the neighbors. Real frames of different channels from the same minute
have correlations of 0.74 to 0.96. The correlation of a frame with itself rotated by 180° is −0.33
to 0.23 (0.88 in 1700 Å)."""


NEIGHBORHOOD: Final = timedelta(minutes=70)
"""Maximum time to a neighbor: one hour, plus 4 minutes of tolerance for each frame. The Sun rotates
by 0.7° in this time."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Properties of a frame that are compared with those of its neighbors."""

    observed: datetime
    level: float
    """Median of the disk in the unit of the processed frame."""

    thumbnail: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of comparing a frame with its neighbors. Values are None if there are no neighbors."""

    brightness: float | None
    """Ratio of the level to the median level of the neighbors. If there are two middle values,
    the one closer to the frame's level is used, so that one bad neighbor out of two does not make a
    good frame look wrong."""

    similarity: float | None
    """Correlation with the most similar neighbor."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Names from `sdoml_core.frames.flags.FLAGS`."""
        found = []
        if self.brightness is not None:
            found += ["bright"] if self.brightness > BRIGHTNESS_RATIO else []
            found += ["dim"] if self.brightness < 1 / BRIGHTNESS_RATIO else []
        if self.similarity is not None and self.similarity < LEAST_SIMILAR:
            found.append("unlike_neighbors")
        return tuple(found)


def compare_with_neighbors(looks: Sequence[Look]) -> list[Comparison]:
    """Compare each good frame of a channel and day with the two frames before and the two after it.

    Frames from other days are not used, so that the result for a day does not depend on the other
    days in the store.

    Parameters
    ----------
    looks
        Properties of the frames, in chronological order.
    """
    return [_compare(looks, number) for number in range(len(looks))]


def _compare(looks: Sequence[Look], number: int) -> Comparison:
    look = looks[number]
    around = (*range(max(number - 2, 0), number), *range(number + 1, min(number + 3, len(looks))))
    near = [n for n in around if abs(looks[n].observed - look.observed) <= NEIGHBORHOOD]
    if not near:
        return Comparison(None, None)
    levels = sorted(looks[n].level for n in near)
    middle = levels[(len(levels) - 1) // 2], levels[len(levels) // 2]
    usual = min(middle, key=lambda level: abs(math.log(max(level, 1e-9) / max(look.level, 1e-9))))
    alike = [correlate(look.thumbnail, looks[n].thumbnail) for n in near]
    return Comparison(look.level / usual if usual > 0 else None, max(alike))
