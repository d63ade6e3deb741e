"""A mirror's health: when to ask it, when to leave it alone, when to stop hoping.

What belongs here: counting successes and failures of one root. What does not: requests
(:mod:`sdoml_dagster.archive.client`).

The breaker opens after some failures in a row, whatever file they concern. The mirror then rests;
after that one caller may probe it while the others wait, and each failed probe doubles the rest.
A mirror that has failed for long enough is *dead*: nobody waits for it, but it is still probed.
"""

import threading
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

BREAKER_FAILURES = 8
"""Failures in a row that open the breaker. Where one request in five fails at random, this many
in a row come about once in 400,000 requests. Half as many for a mirror that never answered yet."""

FIRST_REST = 2.0
"""Seconds for which an open breaker leaves the mirror alone; doubles with each failed probe."""

LONGEST_REST = 120.0
"""Seconds; a mirror that asks for more patience (``Retry-After``) is not waited for."""

PATIENCE = 30.0
"""Seconds without any answer after which a mirror with an open breaker counts as dead."""


@dataclass
class Mirror:
    """One root and what is known of its health; safe to share by threads.

    Times are seconds of the monotonic clock.
    """

    root: str
    probe_seconds: float = 60.0
    """How long a probe may take before another caller may try."""

    last_error: str = "not asked"
    _answered: bool = False
    _failures: int = 0
    _failing_since: float = 0.0
    _rests: int = 0
    _rest_until: float = 0.0
    _probing: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def admit(self, now: float) -> bool:
        """Whether the caller may ask now; with the breaker open it is then the one that probes."""
        with self._lock:
            if now < self._rest_until:
                return False
            if self._is_open():
                self._probing = True
                self._rest_until = now + self.probe_seconds
            return True

    def wait(self, now: float) -> float:
        """Seconds until the mirror may be asked again."""
        return max(self._rest_until - now, 0.0)

    def hopeless(self, now: float) -> bool:
        """Whether waiting for this mirror makes no sense: it is dead, or wants too long a rest."""
        with self._lock:
            dead = self._is_open() and now - self._failing_since >= PATIENCE
            return dead or self._rest_until - now > LONGEST_REST

    def succeed(self) -> None:
        """Count an answer of any kind, a 404 included: the mirror lives."""
        with self._lock:
            if self._is_open():
                self._rest_until = 0.0
            self._answered = True
            self._failures = self._rests = 0
            self._probing = False

    def fail(self, error: str, *, asked: float, now: float, retry_after: float = 0.0) -> None:
        """Count a failure.

        Parameters
        ----------
        error
            To show to people.
        asked, now
            When the request began and when it failed.
        retry_after
            Seconds for which the mirror wants to be left alone.
        """
        with self._lock:
            self.last_error = error
            self._failing_since = min(self._failing_since, asked) if self._failures else asked
            self._failures += 1
            # Requests that were under way when the breaker opened say nothing new.
            fresh = self._probing or now >= self._rest_until
            if self._is_open() and fresh:
                self._rest_until = now + min(FIRST_REST * 2**self._rests, LONGEST_REST)
                self._rests = min(self._rests + 1, 16)
                self._probing = False
            self._rest_until = max(self._rest_until, now + retry_after)

    def _is_open(self) -> bool:
        return self._failures >= (BREAKER_FAILURES if self._answered else BREAKER_FAILURES // 2)


def public(root: str) -> str:
    """An address without the user name and password that it may carry."""
    parts = urlsplit(root)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))
