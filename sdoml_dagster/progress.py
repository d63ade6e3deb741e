"""Progress of long work as a handful of log lines, for terminals and Dagster's log alike."""

import time
from collections import Counter
from collections.abc import Callable

LINES = 10
"""Lines that one piece of work logs on its way, at the most."""


class Progress:
    """Says what begins, counts steps, and reports at each tenth of the way with the time left.

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
        self._started = time.monotonic()
        self._done = 0
        self._bytes = 0
        self._outcomes: Counter[str] = Counter()
        report(f"{title}: {total} {unit}")

    def step(self, outcome: str, received: int = 0) -> None:
        """Count one step with its outcome and the bytes that it took from the network."""
        self._done += 1
        self._bytes += received
        self._outcomes[outcome] += 1
        if self._done * LINES // self._total > (self._done - 1) * LINES // self._total:
            self._report(self._line())

    def _line(self) -> str:
        spent = time.monotonic() - self._started
        left = spent / self._done * (self._total - self._done)
        received = f", {self._bytes / 2**20:.0f} MiB fetched" if self._bytes else ""
        others = "".join(
            f", {count} {outcome}" for outcome, count in self._outcomes.items() if outcome != "ok"
        )
        timing = f"{left:.0f} s left" if self._done < self._total else f"{spent:.0f} s"
        return f"{self._title}: {self._done}/{self._total} {self._unit}{received}{others}, {timing}"
