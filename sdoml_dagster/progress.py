"""Report the progress of long tasks in a few log lines, for terminals and for Dagster's log."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

PARTS = 10
"""Number of parts into which the work is divided. A line is reported after each part."""

PAUSE = 2.0
"""Minimum number of seconds between two lines."""

SILENCE = 60.0
"""Maximum number of seconds between two lines."""

_LINE = re.compile(
    r"(?P<title>[a-z_]+ [\w.-]+): (?:(?P<done>\d+)/\d+ \w+(?:, (?P<mib>[\d.]+) MiB fetched)?"
    r"|unchanged, (?P<kept>\d+) \w+ kept)"
)


class Progress:
    """Counts steps, and periodically reports how many are done and an estimate of the time left.

    Parameters
    ----------
    title
        Name of the work, such as ``raw_aia 2024-03-08``.
    total
        Total number of steps.
    report
        Called with one line of text.
    unit
        Plural noun for the steps, such as ``frames``.
    """

    def __init__(
        self, title: str, total: int, report: Callable[[str], None], *, unit: str = "frames"
    ) -> None:
        self._units = unit.removesuffix("s") if total == 1 else unit
        self._title = title
        self._total = total
        self._report = report
        self._started = self._reported = monotonic()
        self._done = 0
        self._part = 0
        self._bytes = 0
        self._outcomes: Counter[str] = Counter()
        report(f"{title}: {total} {self._units}")

    def step(self, outcome: str, received: int = 0, *, steps: int = 1) -> None:
        """Count steps with the same outcome, and the bytes that they received over the network."""
        self._done += steps
        self._bytes += received
        self._outcomes[outcome] += steps
        now, part = monotonic(), self._done * PARTS // self._total
        pause = now - self._reported
        if self._done == self._total or pause >= (PAUSE if part > self._part else SILENCE):
            self._reported, self._part = now, part
            self._report(self._line(now - self._started))

    def _line(self, spent: float) -> str:
        left = spent / self._done * (self._total - self._done)
        received = f", {self._bytes / 2**20:.0f} MiB fetched" if self._bytes else ""
        others = "".join(
            f", {count} {outcome}" for outcome, count in self._outcomes.items() if outcome != "ok"
        )
        timing = duration_text(left) + " left" if self._done < self._total else duration_text(spent)
        return (
            f"{self._title}: {self._done}/{self._total} {self._units}{received}{others}, {timing}"
        )


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """The content of one progress line."""

    title: str
    done: int
    received_mib: float


def read_progress(line: str) -> ProgressReport | None:
    """Parse a line from `Progress`, or a line that reports an unchanged day.

    Return None for any other line.
    """
    match = _LINE.match(line)
    if match is None:
        return None
    done = int(match["done"] or match["kept"])
    return ProgressReport(match["title"], done, float(match["mib"] or 0))


def duration_text(seconds: float) -> str:
    """Format a duration: ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
