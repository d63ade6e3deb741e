"""The archive's client: mirrors, keep-alive connections, retries and back-off.

What belongs here: how to get the bytes of one file, and what counts as an answer. What does not:
when a mirror is left alone (:mod:`sdoml_dagster.archive.circuit_breaker`), which files a day needs
(:mod:`sdoml_dagster.pipeline.fetch`) and what is in them (``sdoml_core``).

An answer is *definite* when it is a whole file that passes the caller's check, a 404 that a second
answer confirms, or a file that fails the check twice. Everything else (server errors, resets,
time-outs, short bodies) may pass, so it is tried again: at once on the next mirror, then after a
pause on all of them.
"""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.parse import urljoin
from urllib.request import getproxies

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError as TransportError

from sdoml_core import __version__
from sdoml_core.errors import FrameError, FrameMissingError, NotAnImageError, OutageError
from sdoml_dagster.archive.circuit_breaker import Mirror, public

USER_AGENT = f"sdoml-lite/{__version__} (+https://github.com/sdoml-lite/sdoml-lite)"

MAX_BYTES = 32 << 20
"""Largest body that is read; the archive's files are about 1 MB."""

MAX_REDIRECTS = 5

SLOWEST_RATE = 20_000
"""Bytes per second below which a body counts as stalled, once the read time-out has passed."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A whole file that passed its check."""

    data: bytes
    value: T
    """What the check made of it."""


@dataclass
class _Answers:
    """What the mirrors have said about one file so far, by root."""

    missing: set[str] = field(default_factory=set)
    rejected: dict[str, list[FrameError]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def settled(self, mirror: Mirror) -> bool:
        """Whether a mirror has given its last word."""
        root = mirror.root
        return root in self.missing or root in self.refused or len(self.rejected.get(root, ())) > 1


class _TransientError(Exception):
    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _RefusedError(Exception):
    """An answer that asking again would not change, and that says nothing of the file."""


class ArchiveClient:
    """Fetches files from the first of several mirrors that has them; safe to share by threads.

    Parameters
    ----------
    roots
        Mirrors with the same content, in the order to ask them.
    connections
        Requests under way at a time; callers beyond that wait.
    connect_timeout, read_timeout
        Seconds.
    attempts
        Times that each mirror is asked before a file counts as an outage.
    pause
        Seconds before the second time; doubles with each, with jitter.
    """

    def __init__(
        self,
        roots: Sequence[str],
        *,
        connections: int = 4,
        connect_timeout: float = 10.0,
        read_timeout: float = 30.0,
        attempts: int = 5,
        pause: float = 0.5,
    ) -> None:
        self.connections = connections
        self._timeout = (connect_timeout, read_timeout)
        self.mirrors = [Mirror(root.rstrip("/"), sum(self._timeout)) for root in roots]
        self._attempts = attempts
        self._pause = pause
        self._turns = threading.BoundedSemaphore(connections)
        self._cancelled = threading.Event()
        self._session = requests.Session()
        # Identity: Content-Length must mean the bytes of the file.
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        adapter = HTTPAdapter(pool_connections=len(self.mirrors), pool_maxsize=connections)
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
        self.cancel()
        self._session.close()

    def cancel(self) -> None:
        """Make all callers give up soon, at the latest when the next bytes come or time out."""
        self._cancelled.set()

    def fetch(self, path: str, check: Callable[[bytes], T]) -> Fetched[T]:
        """The file at a path below the roots.

        Parameters
        ----------
        path
            Relative to each root.
        check
            Makes something of the bytes, or raises :class:`FrameError` where they are not what
            the name says; such a file is asked for on the next mirror and once more.

        Raises
        ------
        FrameMissingError
            At least one mirror says 404, and none has it.
        FrameError
            The bytes that were served are of no use.
        OutageError
            No definite answer after all attempts.
        """
        answers = _Answers()
        attempt = 0
        while True:
            asked = False
            for mirror in self.mirrors:
                if not answers.settled(mirror) and mirror.admit(time.monotonic()):
                    asked = True
                    fetched = self._ask(mirror, path, check, answers)
                    if fetched is not None:
                        return fetched
            # Waiting for a breaker is no attempt: how long is for the mirror's health to say.
            attempt += asked
            unsettled = [mirror for mirror in self.mirrors if not answers.settled(mirror)]
            if not unsettled or attempt >= self._attempts or not self._rest(attempt, unsettled):
                raise self._verdict(path, answers)

    def _ask(
        self, mirror: Mirror, path: str, check: Callable[[bytes], T], answers: _Answers
    ) -> Fetched[T] | None:
        """Put what a mirror says on record; the file, if it is the right one."""
        root = mirror.root
        asked = time.monotonic()
        try:
            data = self._get(f"{root}/{path}")
            if data is None and len(self.mirrors) == 1:
                data = self._get(f"{root}/{path}")  # there is no other to confirm the 404
            mirror.succeed()
            if data is not None:
                return Fetched(data, check(data))
            answers.missing.add(root)
        except FrameError as error:
            answers.rejected.setdefault(root, []).append(error)
        except _RefusedError as error:
            answers.refused[root] = str(error)
            mirror.fail(str(error), asked=asked, now=time.monotonic())
        except _TransientError as error:
            now = time.monotonic()
            mirror.fail(str(error), asked=asked, now=now, retry_after=error.retry_after)
        return None

    def _get(self, url: str) -> bytes | None:
        """The whole body at an address, ``None`` for a 404; follows redirects."""
        try:
            with self._turns:
                for _ in range(MAX_REDIRECTS + 1):
                    if not url.startswith(("http://", "https://")):
                        raise _RefusedError(f"redirected to {url[:200]}")
                    with self._session.get(
                        url,
                        timeout=self._timeout,
                        stream=True,
                        allow_redirects=False,
                        proxies=_proxies(),
                    ) as response:
                        if not response.is_redirect:
                            return self._answer(response)
                        url = urljoin(url, response.headers["Location"])
        except (requests.RequestException, TransportError, OSError) as error:
            raise _TransientError(_root_cause(error)) from error
        except ValueError as error:
            if isinstance(error, FrameError):
                raise
            raise _RefusedError(f"redirected to no address: {error}") from error
        raise _RefusedError(f"more than {MAX_REDIRECTS} redirects")

    def _answer(self, response: requests.Response) -> bytes | None:
        code = response.status_code
        if code == 200:
            return self._body(response)
        if code in {404, 410}:
            # Read the page, so that its connection can be used again.
            with contextlib.suppress(FrameError, _TransientError, TransportError, OSError):
                self._body(response)
            return None
        said = f"HTTP {code} {response.reason or ''}"[:80].rstrip()
        if code in {408, 425, 429} or code >= 500:
            raise _TransientError(said, _retry_after(response))
        raise _RefusedError(said)

    def _body(self, response: requests.Response) -> bytes:
        timeout = self._timeout[1]
        started = time.monotonic()
        parts: list[bytes] = []
        received = 0
        # read1 returns what has arrived, so a trickle cannot hold us for longer than the deadline;
        # it raises where there is less in the end than Content-Length promised.
        while part := response.raw.read1(1 << 18):
            parts.append(part)
            received += len(part)
            if received > MAX_BYTES:
                raise NotAnImageError(f"larger than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > started + timeout + received / SLOWEST_RATE:
                raise _TransientError(f"stalled: {received} bytes within {timeout:g} s")
            if self._cancelled.is_set():
                raise _TransientError("cancelled")
        return b"".join(parts)

    def _rest(self, attempt: int, unsettled: Sequence[Mirror]) -> bool:
        """Pause before another round; False where waiting is pointless."""
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 no secret
        until = time.monotonic() + self._pause * 2 ** max(attempt - 1, 0) * jitter
        while not self._cancelled.is_set():
            now = time.monotonic()
            if all(mirror.hopeless(now) for mirror in unsettled):
                return False
            wait = max(until - now, min(mirror.wait(now) for mirror in unsettled))
            if wait <= 0:
                return True
            # In short naps, since a probe's success ends the rest of a mirror early.
            self._cancelled.wait(min(wait, 0.1))
        return False

    def _verdict(self, path: str, answers: _Answers) -> Exception:
        unsure = [mirror for mirror in self.mirrors if mirror.root not in answers.missing]
        said = "; ".join(
            f"{public(mirror.root)}: {answers.refused.get(mirror.root, mirror.last_error)}"
            for mirror in unsure
        )
        for errors in answers.rejected.values():
            return errors[-1]
        if answers.missing:
            return FrameMissingError(f"not in the archive{f' ({said})' if said else ''}")
        return OutageError(f"no answer for {path} ({said})")


def _root_cause(error: BaseException) -> str:
    """The error at the bottom of a stack of libraries, which alone says what happened."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def _proxies() -> dict[str, str]:
    """Exempt loopback from the proxies of the environment: they reach only their own loopback."""
    exempt = ("localhost", "127.0.0.1", "::1")
    return {"no_proxy": ",".join(filter(None, (getproxies().get("no"), *exempt)))}


def _retry_after(response: requests.Response) -> float:
    """Seconds that the server asks for, given as a number or as a date; 0 without."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
