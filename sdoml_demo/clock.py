"""The time of the simulated archive: real time, or a simulated time that runs faster."""

import threading
import time
from datetime import UTC, datetime, timedelta


class Clock:
    """A thread-safe clock with a configurable start and speed.

    Parameters
    ----------
    start
        Simulated time (UTC) at the moment of creation. Defaults to the real time.
    speed
        Simulated seconds per real second. With 0, only `advance` moves the clock.
    """

    def __init__(self, start: datetime | None = None, *, speed: float = 1.0) -> None:
        self._start = start or datetime.now(UTC)
        self._speed = speed
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """Return the simulated time (UTC)."""
        with self._lock:
            passed = (time.monotonic() - self._began) * self._speed
            return self._start + timedelta(seconds=passed)

    def advance(self, step: timedelta) -> None:
        """Move the clock forward."""
        with self._lock:
            self._start += step
