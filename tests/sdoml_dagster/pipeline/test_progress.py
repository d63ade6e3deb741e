"""Progress lines for long-running work."""

import pytest

from sdoml_dagster.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test advances."""
    now = [0.0]
    monkeypatch.setattr("sdoml_dagster.progress.monotonic", lambda: now[0])
    return now


def run(steps: int, clock: list[float], seconds: float) -> list[str]:
    """Return the lines reported for a number of equally long steps."""
    lines: list[str] = []
    progress = Progress("raw_aia 2024-03-08", steps, lines.append)
    for number in range(steps):
        clock[0] += seconds
        progress.step("missing" if number == 0 else "ok")
    return lines


def test_first_line_and_each_ten_percent_are_reported(clock: list[float]) -> None:
    lines = run(30, clock, seconds=1.0)
    assert lines[0] == "raw_aia 2024-03-08: 30 frames"
    assert lines[1] == "raw_aia 2024-03-08: 3/30 frames, 1 missing, 27 s left"
    assert lines[-1] == "raw_aia 2024-03-08: 30/30 frames, 1 missing, 30 s"
    assert len(lines) == 11


def test_short_work_reports_only_start_and_end(clock: list[float]) -> None:
    assert run(30, clock, seconds=0.05) == [
        "raw_aia 2024-03-08: 30 frames",
        "raw_aia 2024-03-08: 30/30 frames, 1 missing, 2 s",
    ]


def test_slow_work_reports_every_minute(clock: list[float]) -> None:
    lines = run(1000, clock, seconds=10.0)
    assert lines[1] == "raw_aia 2024-03-08: 6/1000 frames, 1 missing, 2.8 h left"
    assert "830/1000 frames, 1 missing, 28 min left" in lines[-30]
    assert 10_000 / 60 <= len(lines) <= 10_000 / 60 + 12


def test_zero_steps_are_reported() -> None:
    lines: list[str] = []
    Progress("shards 2024-03-08", 0, lines.append)
    assert lines == ["shards 2024-03-08: 0 frames"]
