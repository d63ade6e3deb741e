"""Progress of long work as a few log lines, for terminals and Dagster's log alike."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

PARTS = 10
"""A line is reported after each tenth of the work."""

PAUSE = 2.0
"""Least seconds between two lines."""

SILENCE = 60.0
"""Most seconds between two lines."""

_LINE = re.compile(
    r"(?P<title>[a-z_]+ [\w.-]+): (?:(?P<done>\d+)/\d+ \w+(?:, (?P<mib>[\d.]+) MiB fetched)?"
    r"|unchanged, (?P<kept>\d+) \w+ kept)"
)


class Progress:
    """Count steps and report from time to time how many are done and how long the rest takes.

    Parameters
    ----------
    title
        What is being done: ``raw_aia 2024-03-08``.
    total
        Number of steps.
    report
        Receives one line of text.
    unit
        Plural noun for the steps.
    """

    def __init__(
        self, title: str, total: int, report: Callable[[str], None], *, unit: str = "frames"
    ) -> None:
        self._unit = unit
        self._title = title
        self._total = total
        self._report = report
        self._started = self._reported = monotonic()
        self._done = 0
        self._part = 0
        self._bytes = 0
        self._outcomes: Counter[str] = Counter()
        report(f"{title}: {total} {unit}")

    def step(self, outcome: str, received: int = 0) -> None:
        """Count one step with its outcome and the bytes that it fetched from the network."""
        self._done += 1
        self._bytes += received
        self._outcomes[outcome] += 1
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
        return f"{self._title}: {self._done}/{self._total} {self._unit}{received}{others}, {timing}"


@dataclass(frozen=True, slots=True)
class ProgressReport:
    """What one progress line says."""

    title: str
    done: int
    received_mib: float


def read_progress(line: str) -> ProgressReport | None:
    """The content of a line that `Progress` reported or that says a day is unchanged."""
    match = _LINE.match(line)
    if match is None:
        return None
    done = int(match["done"] or match["kept"])
    return ProgressReport(match["title"], done, float(match["mib"] or 0))


def duration_text(seconds: float) -> str:
    """Seconds for people: ``40 s``, ``12 min``, ``2.5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
