"""Progress of long work as a handful of log lines, for terminals and Dagster's log alike."""

from collections import Counter
from collections.abc import Callable
from time import monotonic

PARTS = 10
"""Parts of the way after which there is a line,"""

PAUSE = 2.0
"""but no sooner than this many seconds after the last,"""

SILENCE = 60.0
"""and no later than these."""


class Progress:
    """Says what begins, counts steps, and reports from time to time with the time left.

    Parameters
    ----------
    title
        What is being done: ``raw_aia 2024-03-08``.
    total
        Number of steps.
    report
        Takes one line of text.
    unit
        What the steps are.
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
        """Count one step with its outcome and the bytes that it took from the network."""
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
        timing = _duration(left) + " left" if self._done < self._total else _duration(spent)
        return f"{self._title}: {self._done}/{self._total} {self._unit}{received}{others}, {timing}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"
