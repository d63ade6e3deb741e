"""A bad frame is flagged by comparison with its neighbors; good frames beside it are not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from sdoml_core.frames.neighbors import Look, compare_with_neighbors

THUMBNAIL = np.random.default_rng(5).random((32, 32)).astype(np.float32)


def looks(levels: list[float], *, minutes: int = 60) -> list[Look]:
    start = datetime(2024, 3, 8, tzinfo=UTC)
    return [
        Look(start + n * timedelta(minutes=minutes), level, THUMBNAIL)
        for n, level in enumerate(levels)
    ]


def flagged(levels: list[float], *, minutes: int = 60) -> dict[int, tuple[str, ...]]:
    compared = compare_with_neighbors(looks(levels, minutes=minutes))
    return {number: result.flags for number, result in enumerate(compared) if result.flags}


@pytest.mark.parametrize("minutes", [15, 60])
@pytest.mark.parametrize(("level", "flag"), [(800.0, "bright"), (12.0, "dim")])
def test_only_the_bad_frame_is_flagged(minutes: int, level: float, flag: str) -> None:
    levels = [100.0] * 8
    levels[4] = level
    assert flagged(levels, minutes=minutes) == {4: (flag,)}


def test_two_bad_frames_in_a_row_are_flagged() -> None:
    levels = [100.0] * 9
    levels[4] = levels[5] = 800.0
    assert flagged(levels, minutes=15) == {4: ("bright",), 5: ("bright",)}


def test_slow_change_is_not_flagged() -> None:
    assert flagged([100.0 * 1.2**n for n in range(10)]) == {}


def test_hourly_frames_have_neighbors_despite_different_seconds() -> None:
    frames = looks([100.0, 100.0, 100.0])
    late = Look(frames[1].observed + timedelta(minutes=4, seconds=10), 100.0, THUMBNAIL)
    results = compare_with_neighbors([frames[0], late, frames[2]])
    assert [result.brightness for result in results] == [1.0, 1.0, 1.0]


def test_frames_without_neighbors_are_not_compared() -> None:
    compared = compare_with_neighbors(looks([100.0, 800.0], minutes=120))
    assert [(result.brightness, result.similarity) for result in compared] == [(None, None)] * 2


def test_different_image_is_flagged_as_unlike_its_neighbors() -> None:
    frames = looks([100.0] * 5)
    other = np.random.default_rng(6).random((32, 32)).astype(np.float32)
    frames[2] = Look(frames[2].observed, 100.0, other)
    results = compare_with_neighbors(frames)
    assert [bool(result.flags) for result in results] == [False, False, True, False, False]
    assert results[2].flags == ("unlike_neighbors",)
