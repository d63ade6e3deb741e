"""The archive's HTTP client: mirrors, keep-alive connections, retries and back-off.

This module downloads single files and interprets the responses.
:mod:`sdoml_dagster.archive.circuit_breaker` decides when to stop sending requests to a mirror,
:mod:`sdoml_dagster.pipeline.fetch` decides which files a day needs, and ``sdoml_core`` checks the
content of the files.

A response is *definite* if it is a whole file that passes the caller's check, a 404 that a second
response confirms, a refusal (403), or a file that fails the check twice. All other responses
(server errors, resets, timeouts, short bodies) may be temporary and are retried. The client
immediately tries the next mirror, and tries all mirrors again after a pause.

A web page instead of an image, or a refusal, is a definite response for that file. If a mirror
returns nothing else, its circuit breaker opens, as after any other failure, and the remaining files
are recorded as an outage.
"""

import contextlib
import hashlib
import random
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Generic, Self, TypeVar, cast
from urllib.parse import urljoin
from urllib.request import getproxies

import requests
from urllib3.exceptions import HTTPError as TransportError

from sdoml_core import __version__
from sdoml_core.errors import (
    DoubtfulFrameError,
    FrameError,
    FrameMissingError,
    FrameRefusedError,
    NotAnImageError,
    OutageError,
)
from sdoml_dagster.archive.address import public
from sdoml_dagster.archive.circuit_breaker import Mirror
from sdoml_dagster.archive.open_sockets import OpenSockets, TrackingAdapter

USER_AGENT = f"sdoml-lite/{__version__} (+https://github.com/sdoml-lite/sdoml-lite)"

MAX_BYTES = 32 << 20
"""Maximum size of a file after decompression. The archive's files are about 1 MB."""

MAX_REDIRECTS = 5

SLOWEST_RATE = 20_000
"""Bytes per second below which a body is considered stalled, after the read timeout has passed."""

_GZIP = b"\x1f\x8b"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fetched(Generic[T]):
    """A complete file that passed its check."""

    data: bytes
    value: T
    """Result of the check."""

    published: datetime | None = None
    """Last-Modified of the response (UTC)."""


@dataclass(frozen=True, slots=True)
class Page:
    """A file that a mirror served, with the headers that identify this version."""

    data: bytes
    etag: str | None = None
    modified: str | None = None
    """Last-Modified, as the mirror sent it."""

    @property
    def conditions(self) -> dict[str, str]:
        """Headers of a conditional request, which returns the file only if it has changed."""
        known = {"If-None-Match": self.etag, "If-Modified-Since": self.modified}
        return {name: value for name, value in known.items() if value is not None}


@dataclass
class _Responses:
    """All responses so far for one file, by root."""

    missing: set[str] = field(default_factory=set)
    rejected: dict[str, list[FrameError]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    doubted: set[bytes] = field(default_factory=set)
    """Hashes of files with signs of damage."""

    def settled(self, mirror: Mirror) -> bool:
        """Return whether a mirror has given its final response."""
        root = mirror.root
        rejected = self.rejected.get(root, [])
        # If two doubtful responses differ, a third response decides which is right.
        needed = 3 if rejected and isinstance(rejected[-1], DoubtfulFrameError) else 2
        return root in self.missing or root in self.refused or len(rejected) >= needed

    def confirmed(self, data: bytes) -> bool:
        """Return whether an earlier response had the same bytes, which shows that both are good."""
        digest = hashlib.sha256(data).digest()
        seen = digest in self.doubted
        self.doubted.add(digest)
        return seen


class _TransientError(Exception):
    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _RefusedError(Exception):
    """The mirror refuses the file, for example with 403. Retrying does not help."""


class ArchiveClient:
    """Fetches each file from the first mirror that has it. Thread-safe.

    Parameters
    ----------
    roots
        Mirrors with the same content, in the order in which they are tried.
    connections
        Maximum number of concurrent requests. Additional callers wait.
    connect_timeout, read_timeout
        Timeouts in seconds.
    attempts
        Attempts per mirror before a file is recorded as an outage.
    pause
        Seconds before the second attempt. The pause doubles with each attempt and includes jitter.
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
        self._canceled = threading.Event()
        self._sockets = OpenSockets()
        self._session = requests.Session()
        # Without compression, Content-Length is the size of the file.
        self._session.headers.update({"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
        adapter = TrackingAdapter(
            self._sockets, pool_connections=len(self.mirrors), pool_maxsize=connections
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
        self.cancel()
        self._session.close()

    def cancel(self) -> None:
        """Make all callers give up. A caller that is still connecting stops at its timeout."""
        self._canceled.set()
        self._sockets.shut_down()

    def fetch(self, path: str, check: Callable[[bytes], T]) -> Fetched[T]:
        """Fetch the file at a path below the roots.

        Parameters
        ----------
        path
            Relative to each root.
        check
            Converts the bytes to the result, or raises :class:`FrameError` if they are not the
            expected file. A rejected file is requested from the next mirror, and later once more
            from the same mirror. A file for which the check raises :class:`DoubtfulFrameError` is
            accepted if a second response has the same bytes.

        Raises
        ------
        FrameMissingError
            If at least one mirror responds with 404 and no mirror has the file.
        FrameRefusedError
            If each mirror refuses the file, for example with 403.
        FrameError
            If the received bytes are unusable.
        OutageError
            If there is no definite response after all attempts.
        """
        responses = _Responses()
        attempt = 0
        while True:
            asked = False
            for mirror in self.mirrors:
                if not responses.settled(mirror) and mirror.admit(time.monotonic()):
                    asked = True
                    fetched = self._ask(mirror, path, check, responses)
                    if fetched is not None:
                        return fetched
            # Waiting for an open circuit breaker does not count as an attempt.
            attempt += asked
            unsettled = [mirror for mirror in self.mirrors if not responses.settled(mirror)]
            if not unsettled or attempt >= self._attempts or not self._rest(attempt, unsettled):
                raise self._verdict(path, responses)

    def _ask(
        self, mirror: Mirror, path: str, check: Callable[[bytes], T], responses: _Responses
    ) -> Fetched[T] | None:
        """Request a file from a mirror, record the response, and return the file if it is good."""
        root = mirror.root
        asked = time.monotonic()
        try:
            page = self._get(f"{root}/{path}")
            if page is None and len(self.mirrors) == 1:
                page = self._get(f"{root}/{path}")  # no other mirror can confirm the 404
            if page is None:
                mirror.succeed()
                responses.missing.add(root)
                return None
            return self._checked(mirror, page, check, responses)
        except NotAnImageError as error:
            # A web page instead of an image is either one broken file, or an outage in which the
            # server returns status 200.
            responses.rejected.setdefault(root, []).append(error)
            mirror.fail(str(error), asked=asked, now=time.monotonic())
        except FrameError as error:
            mirror.succeed()
            responses.rejected.setdefault(root, []).append(error)
        except _RefusedError as error:
            responses.refused[root] = str(error)
            mirror.fail(str(error), asked=asked, now=time.monotonic())
        except _TransientError as error:
            now = time.monotonic()
            mirror.fail(str(error), asked=asked, now=now, retry_after=error.retry_after)
        return None

    def _checked(
        self, mirror: Mirror, page: Page, check: Callable[[bytes], T], responses: _Responses
    ) -> Fetched[T]:
        """Check the file and return it with the result."""
        try:
            result = check(page.data)
        except DoubtfulFrameError as error:
            if not responses.confirmed(page.data):
                raise
            result = cast("T", error.value)
        mirror.succeed()
        return Fetched(page.data, result, _http_time(page.modified or ""))

    def poll(self, path: str, known: Page | None = None) -> Page:
        """Request a small file, such as a listing, from the first mirror that responds.

        Each mirror gets at most one request.

        Parameters
        ----------
        path
            Relative to each root.
        known
            Result of an earlier request. It is returned if the mirror reports that the file has not
            changed.

        Raises
        ------
        FrameMissingError
            If a mirror responds with 404 and no mirror has the file.
        FrameRefusedError
            If the mirrors refuse the file, for example with 403.
        OutageError
            If no mirror responds.
        """
        absent: FrameMissingError | None = None
        for mirror in self.mirrors:
            if not mirror.admit(time.monotonic()):
                continue
            asked = time.monotonic()
            try:
                page = self._get(f"{mirror.root}/{path}", known)
            except _RefusedError as error:
                mirror.succeed()
                absent = absent or FrameRefusedError(f"{public(mirror.root)}/{path}: {error}")
                continue
            except (_TransientError, FrameError) as error:
                wait = error.retry_after if isinstance(error, _TransientError) else 0.0
                mirror.fail(str(error), asked=asked, now=time.monotonic(), retry_after=wait)
                continue
            mirror.succeed()
            if page is not None:
                return page
            if absent is None or isinstance(absent, FrameRefusedError):
                absent = FrameMissingError(f"{public(mirror.root)}/{path} does not exist")
        if absent is not None:
            raise absent
        said = "; ".join(f"{public(mirror.root)}: {mirror.last_error}" for mirror in self.mirrors)
        raise OutageError(f"no answer for {path} ({said})")

    def _get(self, url: str, known: Page | None = None) -> Page | None:
        """Download the file at an address, following redirects. Return ``None`` for a 404."""
        try:
            with self._turns:
                if self._canceled.is_set():
                    raise _TransientError("canceled")
                for _ in range(MAX_REDIRECTS + 1):
                    if not url.startswith(("http://", "https://")):
                        raise _RefusedError(f"redirected to {url[:200]}")
                    with self._session.get(
                        url,
                        timeout=self._timeout,
                        stream=True,
                        allow_redirects=False,
                        proxies=_proxies(),
                        headers=known.conditions if known else None,
                    ) as response:
                        if response.status_code == 304 and known is not None:
                            return known
                        if not response.is_redirect:
                            return self._interpret(response)
                        url = urljoin(url, response.headers["Location"])
        except (requests.RequestException, TransportError, OSError) as error:
            raise _TransientError(_root_cause(error)) from error
        except ValueError as error:
            if isinstance(error, FrameError):
                raise
            raise _RefusedError(f"redirected to an invalid address: {error}") from error
        raise _RefusedError(f"more than {MAX_REDIRECTS} redirects")

    def _interpret(self, response: requests.Response) -> Page | None:
        code = response.status_code
        if code == 200:
            named = response.headers
            return Page(self._body(response), named.get("ETag"), named.get("Last-Modified"))
        if code in {404, 410}:
            # Read the error page, so that the connection can be reused.
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
        # read1 returns the bytes that have arrived, so a slow body cannot exceed the deadline. It
        # raises an error if the body is shorter than Content-Length.
        while part := response.raw.read1(1 << 18):
            parts.append(part)
            received += len(part)
            if received > MAX_BYTES:
                raise NotAnImageError(f"larger than {MAX_BYTES >> 20} MiB")
            if time.monotonic() > started + timeout + received / SLOWEST_RATE:
                raise _TransientError(f"stalled: {received} bytes within {timeout:g} s")
            if self._canceled.is_set():
                raise _TransientError("canceled")
        return _decompressed(b"".join(parts))

    def _rest(self, attempt: int, unsettled: Sequence[Mirror]) -> bool:
        """Wait before the next round. Return False if waiting is pointless."""
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 no secret
        until = time.monotonic() + self._pause * 2 ** max(attempt - 1, 0) * jitter
        while not self._canceled.is_set():
            now = time.monotonic()
            if all(mirror.hopeless(now) for mirror in unsettled):
                return False
            wait = max(until - now, min(mirror.wait(now) for mirror in unsettled))
            if wait <= 0:
                return True
            # Sleep in short intervals, because a successful probe ends a mirror's pause early.
            self._canceled.wait(min(wait, 0.1))
        return False

    def _verdict(self, path: str, responses: _Responses) -> Exception:
        unsure = [mirror for mirror in self.mirrors if mirror.root not in responses.missing]
        said = "; ".join(
            f"{public(mirror.root)}: {responses.refused.get(mirror.root, mirror.last_error)}"
            for mirror in unsure
        )
        rejected = [error for by_root in responses.rejected.values() for error in by_root]
        damaged = [error for error in rejected if not isinstance(error, NotAnImageError)]
        if damaged:
            return damaged[-1]
        if responses.missing:
            return FrameMissingError(f"not in the archive{f' ({said})' if said else ''}")
        if rejected:
            return rejected[-1]
        if len(responses.refused) == len(self.mirrors):
            return FrameRefusedError(f"refused by the archive ({said})")
        return OutageError(f"no answer for {path} ({said})")


def _decompressed(data: bytes) -> bytes:
    """Remove gzip compression that was not requested.

    No file in the archive starts like a gzip stream, so the first bytes show whether a body is
    compressed. The headers do not: some servers declare the compression incorrectly or not at all.
    """
    if not data.startswith(_GZIP):
        return data
    stream = zlib.decompressobj(wbits=31)
    try:
        content = stream.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise NotAnImageError(f"damaged gzip stream: {error}") from error
    if len(content) > MAX_BYTES:
        raise NotAnImageError(f"larger than {MAX_BYTES >> 20} MiB")
    if not stream.eof:
        raise _TransientError("truncated gzip stream")
    return content


def _root_cause(error: BaseException) -> str:
    """Return the innermost error of an exception chain, which is the cause."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def _proxies() -> dict[str, str]:
    """Exempt loopback addresses from the environment's proxies, which cannot reach this machine."""
    exempt = ("localhost", "127.0.0.1", "::1")
    return {"no_proxy": ",".join(filter(None, (getproxies().get("no"), *exempt)))}


def _retry_after(response: requests.Response) -> float:
    """Convert Retry-After (seconds or a date) to seconds. Return 0 if the header is missing."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    moment = _http_time(value)
    return 0.0 if moment is None else max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def _http_time(value: str) -> datetime | None:
    """Parse a date in the format of HTTP headers. Returns None for other text."""
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
