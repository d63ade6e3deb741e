"""The outcome for a single frame with each kind of corruption.

``benchmarks/corrupted_frames.py`` tests the same kinds in whole days, where frames have neighbors.
"""

from datetime import UTC, datetime

import pytest

from sdoml_core.errors import FrameError
from sdoml_core.frames.aia import decode_aia
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_demo import corruptions
from sdoml_demo.absences import PERFECT
from sdoml_demo.render.aia_file import render_aia
from tests.support.real_frames import REAL_FRAMES

REFUSED = "refused"
ONLY_NEIGHBORS_TELL = "passed"

OUTCOMES = {
    "roll 180°, in the header": {REFUSED},
    "roll 0.5°, in the header": {"pointing_corrected"},
    "roll 180°, not in the header": {ONLY_NEIGHBORS_TELL},
    "off center, in the header": {REFUSED},
    "off center by 2.5 pixels, in the header": {"pointing_corrected"},
    "off center, not in the header": {REFUSED},
    "scale 1.2″, in the header": {REFUSED},
    "scale, not in the header": {REFUSED, "odd_radius"},
    "RSUN_OBS wrong": {REFUSED},
    "EXPTIME 0": {REFUSED},
    "EXPTIME negative": {REFUSED},
    "EXPTIME nan": {REFUSED},
    "EXPTIME 600 s": {REFUSED},
    "EXPTIME ten times too short": {"short_exposure"},
    "brightness ×8": {ONLY_NEIGHBORS_TELL},
    "brightness ÷8": {ONLY_NEIGHBORS_TELL},
    "no Sun": {REFUSED},
    "all zero": {REFUSED},
    "saturated": {REFUSED},
    "half dark": {"partial_disk"},
    "block without data": {"missing_pixels", "partial_disk"},
    "block of zeros": {"partial_disk"},
    "scan lines": {REFUSED, "bright_sky"},
    "shifted half": {REFUSED, ONLY_NEIGHBORS_TELL},
    "particle storm": {REFUSED, "bright_sky"},
    "IMG_TYPE DARK": {REFUSED},
    "ACS_ECLP YES": {REFUSED},
    "PERCENTD 60": {REFUSED},
    "QUALITY bit 30": {"provisional"},
}
"""Allowed outcomes by kind. If there are several, the outcome depends on the channel."""


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    time = datetime(2024, 3, 8, 6, tzinfo=UTC)
    rendered = {f"{w} Å, rendered": render_aia(time, w, PERFECT) for w in (193, 1700)}
    return rendered | {"171 Å, 2014": REAL_FRAMES["171 Å, 2014"].read_bytes()}


def outcome(data: bytes) -> set[str]:
    try:
        judgment = judge_aia(decode_aia(data), max_missing_fraction=0.05)
    except FrameError:
        return {REFUSED}
    if judgment.flaw is not None:
        return {REFUSED}
    return set(judgment.flags) or {ONLY_NEIGHBORS_TELL}


@pytest.mark.parametrize("kind", corruptions.AIA, ids=lambda kind: kind.name)
def test_corruptions_have_the_expected_outcome(
    kind: corruptions.Corruption, files: dict[str, bytes]
) -> None:
    found = {name: outcome(kind.change(data)) for name, data in files.items()}
    unexpected = {name: seen for name, seen in found.items() if not seen <= OUTCOMES[kind.name]}
    assert unexpected == {}


def test_intact_frames_have_no_flags(files: dict[str, bytes]) -> None:
    assert {name: outcome(data) for name, data in files.items()} == {
        name: {ONLY_NEIGHBORS_TELL} for name in files
    }


def test_flare_at_the_limb_does_not_move_the_disk() -> None:
    time = datetime(2023, 10, 15, 2, tzinfo=UTC)
    assert outcome(render_aia(time, 335, PERFECT)) == {"short_exposure"}


def test_small_offset_is_flagged(files: dict[str, bytes]) -> None:
    moved = corruptions.shifted(6.0, 0.0)
    for data in files.values():
        assert outcome(moved(data)) == {"off_center"}
