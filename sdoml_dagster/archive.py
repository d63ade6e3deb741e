"""The archive's client: mirrors, keep-alive connections, retries, back-off, circuit breakers.

What belongs here: how to get the bytes of one file, and what counts as an answer. What does not:
which files a day needs (:mod:`sdoml_dagster.fetch`) and what is in them (``sdoml_core``).

An answer is *definite* when it is a whole file that passes the caller's check, a 404, or a file
that fails the check twice. Everything else (server errors, resets, time-outs, short bodies) may
pass, so it is tried again: at once on the next mirror, then after a pause on all of them.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Generic, Self, TypeVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError as TransportError

from sdoml_core import __version__
from sdoml_core.errors import FrameError, OutageError, TruncatedFrameError

USER_AGENT = f"sdoml-lite/{__version__} (+https://github.com/sdoml-lite/sdoml-lite)"

MAX_BYTES = 32 << 20
"""Largest body that is read; the archive's files are about 1 MB."""

SLOWEST_RATE = 20_000
"""Bytes per second below which a body counts as stalled, once the read time-out has passed."""

BREAKER_FAILURES = 8
"""Failures in a row after which a mirror is left alone for a while."""

LONGEST_PAUSE = 120.0
"""Seconds; a mirror that asks for more patience (``Retry-After``) is unavailable in this run."""

T = TypeVar("T")


class FrameMissingError(LookupError):
    """No mirror has the file."""


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A whole file that passed its check."""

    data: bytes
    value: T
    """What the check made of it."""


@dataclass
class Mirror:
    """One root and what is known of its health. Shared by threads, guarded by the client's lock."""

    root: str
    failures: int = 0
    open_until: float = 0.0
    """Monotonic time before which the mirror is not asked."""

    last_error: str = ""

    def succeed(self) -> None:
        """Close the breaker."""
        self.failures = 0

    def fail(self, error: str, *, now: float, pause: float, retry_after: float | None) -> None:
        """Count a failure; leave the mirror alone after many of them, or when it asks for that."""
        self.failures += 1
        self.last_error = error
        excess = self.failures - BREAKER_FAILURES
        if excess >= 0:
            rest = min(pause * 2 ** min(excess // BREAKER_FAILURES + 2, 10), LONGEST_PAUSE)
            self.open_until = max(self.open_until, now + rest)
        if retry_after is not None:
            self.open_until = max(self.open_until, now + retry_after)


@dataclass
class _Pending:
    """What the mirrors have said about one file so far."""

    missing: list[str] = field(default_factory=list)
    rejected: dict[str, list[FrameError]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def settled(self, mirror: Mirror) -> bool:
        """Whether a mirror has given its last word."""
        root = mirror.root
        return root in self.missing or root in self.refused or len(self.rejected.get(root, [])) >= 2


class _TransientError(Exception):
    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _RefusedError(Exception):
    """A 4xx that asking again would not change."""


class ArchiveClient:
    """Fetches files from the first of several mirrors that has them; safe to share by threads.

    Parameters
    ----------
    roots
        Mirrors with the same content, in the order to ask them.
    connections
        Connections held at a time; callers beyond that wait.
    connect_timeout, read_timeout
        Seconds.
    attempts
        Rounds over the mirrors before a file counts as an outage.
    pause
        Seconds before the second round; doubles with each round, with jitter.
    """

    def __init__(
        self,
        roots: Sequence[str],
        *,
        connections: int = 4,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        attempts: int = 5,
        pause: float = 0.5,
    ) -> None:
        self.mirrors = [Mirror(root.rstrip("/")) for root in roots]
        self.connections = connections
        self._timeout = (connect_timeout, read_timeout)
        self._attempts = attempts
        self._pause = pause
        self._lock = threading.Lock()
        self._exhausted = False
        self._session = requests.Session()
        self._session.max_redirects = 5
        # Identity: Content-Length must mean the bytes of the file.
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        adapter = HTTPAdapter(
            pool_connections=len(self.mirrors), pool_maxsize=connections, pool_block=True
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session.close()

    def fetch(self, path: str, check: Callable[[bytes], T]) -> Fetched[T]:
        """The file at a path below the roots.

        Parameters
        ----------
        path
            Relative to each root.
        check
            Makes something of the bytes, or raises :class:`FrameError` where they are not what
            the name says; such a file is asked for once more and then from the next mirror.

        Raises
        ------
        FrameMissingError
            At least one mirror says 404, and none has it.
        FrameError
            The bytes that were served are of no use.
        OutageError
            No definite answer after all attempts.
        """
        pending = _Pending()
        for attempt in range(self._attempts):
            if attempt and not self._rest(attempt, pending):
                break
            for mirror in self.mirrors:
                if pending.settled(mirror) or time.monotonic() < mirror.open_until:
                    continue
                fetched = self._ask(mirror, path, check, pending)
                if fetched is not None:
                    return fetched
            if all(pending.settled(mirror) for mirror in self.mirrors):
                break
        raise self._verdict(path, pending)

    def _ask(
        self, mirror: Mirror, path: str, check: Callable[[bytes], T], pending: _Pending
    ) -> Fetched[T] | None:
        try:
            data = self._get(f"{mirror.root}/{path}")
            if data is None:
                pending.missing.append(mirror.root)
                fetched = None
            else:
                fetched = Fetched(data, check(data))
        except FrameError as error:
            pending.rejected.setdefault(mirror.root, []).append(error)
            fetched = None
        except _RefusedError as error:
            pending.refused[mirror.root] = str(error)
            self._count_failure(mirror, str(error), None)
            return None
        except _TransientError as error:
            self._count_failure(mirror, str(error), error.retry_after)
            return None
        with self._lock:
            mirror.succeed()
            self._exhausted = False
        return fetched

    def _get(self, url: str) -> bytes | None:
        """One request: the whole body, ``None`` for a 404."""
        try:
            with self._session.get(url, timeout=self._timeout, stream=True) as response:
                if response.status_code in {404, 410}:
                    _drain(response)
                    return None
                if response.status_code in {408, 425, 429} or response.status_code >= 500:
                    raise _TransientError(
                        f"HTTP {response.status_code} {response.reason}", _retry_after(response)
                    )
                if response.status_code != 200:
                    raise _RefusedError(f"HTTP {response.status_code} {response.reason}")
                return self._body(response)
        except requests.TooManyRedirects as error:
            raise _RefusedError(str(error)) from error
        except (requests.RequestException, TransportError, OSError) as error:
            raise _TransientError(f"{type(error).__name__}: {error}") from error

    def _body(self, response: requests.Response) -> bytes:
        deadline = time.monotonic() + self._timeout[1]
        promised = response.headers.get("Content-Length")
        parts: list[bytes] = []
        received = 0
        # read1 returns what has arrived, so a trickle cannot hold us for longer than the deadline.
        while part := response.raw.read1(1 << 16):
            parts.append(part)
            received += len(part)
            if received > MAX_BYTES:
                raise TruncatedFrameError(f"body is larger than {MAX_BYTES} bytes")
            if time.monotonic() > deadline + received / SLOWEST_RATE:
                raise _TransientError(f"stalled: {received} bytes within {self._timeout[1]:g} s")
        if promised is not None and promised.isdigit() and received != int(promised):
            raise _TransientError(f"body ended after {received} of {promised} bytes")
        return b"".join(parts)

    def _count_failure(self, mirror: Mirror, error: str, retry_after: float | None) -> None:
        with self._lock:
            mirror.fail(error, now=time.monotonic(), pause=self._pause, retry_after=retry_after)

    def _rest(self, attempt: int, pending: _Pending) -> bool:
        """Pause before another round; False where waiting is pointless."""
        open_mirrors = [m for m in self.mirrors if not pending.settled(m)]
        until = min(mirror.open_until for mirror in open_mirrors)
        pause = self._pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)  # noqa: S311 jitter
        wait = max(until - time.monotonic(), pause)
        answered = bool(pending.missing or pending.rejected)
        if wait > LONGEST_PAUSE or (until > time.monotonic() and (self._exhausted or answered)):
            return False
        time.sleep(wait)
        return True

    def _verdict(self, path: str, pending: _Pending) -> Exception:
        for errors in pending.rejected.values():
            return errors[-1]
        if pending.missing:
            return FrameMissingError(path)
        with self._lock:
            # From now on a file for which no mirror is open fails at once, until one answers again.
            self._exhausted = True
        said = "; ".join(
            f"{m.root}: {pending.refused.get(m.root) or m.last_error}" for m in self.mirrors
        )
        return OutageError(f"no answer for {path} ({said})")


def _drain(response: requests.Response) -> None:
    """Read a small error page, so that its connection can be used again."""
    response.raw.read(1 << 16)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks for, given as a number or as a date."""
    value = response.headers.get("Retry-After")
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
