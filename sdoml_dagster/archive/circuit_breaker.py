"""Circuit breaker: tracks the health of a mirror and decides whether to send requests to it.

This module counts the successes and failures of one root. :mod:`sdoml_dagster.archive.client` makes
the requests.

The breaker opens after several consecutive failures, even if they concern different files. The
mirror then gets no requests for some time. After this pause, one caller may probe the mirror while
the others wait. Each failed probe doubles the pause. A mirror that has failed for a long time is
*dead*. Callers do not wait for a dead mirror, but they still probe it.
"""

import threading
from dataclasses import dataclass, field

BREAKER_FAILURES = 8
"""Number of consecutive failures that opens the breaker. If one request in five fails at random,
this many failures in a row occur about once in 400,000 requests. For a mirror that has never
responded, half as many failures are enough."""

FIRST_REST = 2.0
"""Length in seconds of the pause after the breaker opens. Each failed probe doubles it."""

LONGEST_REST = 120.0
"""Maximum pause in seconds. Callers do not wait if ``Retry-After`` is longer."""

PATIENCE = 30.0
"""Seconds without a response after which a mirror with an open breaker is considered dead."""


@dataclass
class Mirror:
    """A root and its health. Thread-safe.

    Times are in seconds on the monotonic clock.
    """

    root: str
    probe_seconds: float = 60.0
    """Seconds after which another caller may probe the mirror if the first probe has not ended."""

    last_error: str = "not asked"
    _answered: bool = False
    _failures: int = 0
    _failing_since: float = 0.0
    _rests: int = 0
    _rest_until: float = 0.0
    _probing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def admit(self, now: float) -> bool:
        """Return whether the caller may send a request now.

        If the breaker is open, this request is a probe.
        """
        with self._lock:
            if now < self._rest_until:
                return False
            if self._is_open():
                self._probing = True
                self._rest_until = now + self.probe_seconds
            return True

    def wait(self, now: float) -> float:
        """Return the number of seconds until requests to the mirror are allowed again."""
        return max(self._rest_until - now, 0.0)

    def hopeless(self, now: float) -> bool:
        """Return whether waiting is pointless: the mirror is dead, or the pause is too long."""
        with self._lock:
            dead = self._is_open() and now - self._failing_since >= PATIENCE
            return dead or self._rest_until - now > LONGEST_REST

    def succeed(self) -> None:
        """Record a response. Any response, even a 404, shows that the mirror works."""
        with self._lock:
            if self._is_open():
                self._rest_until = 0.0
            self._answered = True
            self._failures = self._rests = 0
            self._probing = False

    def fail(self, error: str, *, asked: float, now: float, retry_after: float = 0.0) -> None:
        """Record a failure.

        Parameters
        ----------
        error
            Error message for users.
        asked, now
            Times at which the request began and failed.
        retry_after
            Seconds to wait before the next request, as requested by the mirror.
        """
        with self._lock:
            self.last_error = error
            self._failing_since = min(self._failing_since, asked) if self._failures else asked
            self._failures += 1
            # Ignore failures of requests that were in flight when the breaker opened.
            fresh = self._probing or now >= self._rest_until
            if self._is_open() and fresh:
                self._rest_until = now + min(FIRST_REST * 2**self._rests, LONGEST_REST)
                self._rests = min(self._rests + 1, 16)
                self._probing = False
            self._rest_until = max(self._rest_until, now + retry_after)

    def _is_open(self) -> bool:
        return self._failures >= (BREAKER_FAILURES if self._answered else BREAKER_FAILURES // 2)
