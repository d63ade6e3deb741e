"""What long work says on its way."""

import pytest

from sdoml_dagster.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock of which the test moves the only hand."""
    hand = [0.0]
    monkeypatch.setattr("sdoml_dagster.progress.monotonic", lambda: hand[0])
    return hand


def run(steps: int, clock: list[float], seconds: float) -> list[str]:
    """The lines of so many steps, each of which takes so long."""
    lines: list[str] = []
    progress = Progress("raw_aia 2024-03-08", steps, lines.append)
    for number in range(steps):
        clock[0] += seconds
        progress.step("missing" if number == 0 else "ok")
    return lines


def test_it_says_what_begins_and_each_tenth_of_the_way(clock: list[float]) -> None:
    lines = run(30, clock, seconds=1.0)
    assert lines[0] == "raw_aia 2024-03-08: 30 frames"
    assert lines[1] == "raw_aia 2024-03-08: 3/30 frames, 1 missing, 27 s left"
    assert lines[-1] == "raw_aia 2024-03-08: 30/30 frames, 1 missing, 30 s"
    assert len(lines) == 11


def test_short_work_has_a_line_at_its_ends_alone(clock: list[float]) -> None:
    assert run(30, clock, seconds=0.05) == [
        "raw_aia 2024-03-08: 30 frames",
        "raw_aia 2024-03-08: 30/30 frames, 1 missing, 2 s",
    ]


def test_slow_work_says_something_every_minute(clock: list[float]) -> None:
    lines = run(1000, clock, seconds=10.0)
    assert lines[1] == "raw_aia 2024-03-08: 6/1000 frames, 1 missing, 2.8 h left"
    assert "830/1000 frames, 1 missing, 28 min left" in lines[-30]
    assert 10_000 / 60 <= len(lines) <= 10_000 / 60 + 12


def test_work_of_no_steps_says_so() -> None:
    lines: list[str] = []
    Progress("shards 2024-03-08", 0, lines.append)
    assert lines == ["shards 2024-03-08: 0 frames"]
