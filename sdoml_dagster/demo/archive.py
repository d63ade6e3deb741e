"""The server: the JSOC's two image trees over HTTP, on loopback, rendered on request.

Frames depend on their names alone. What was rendered is kept in a cache folder, under a key made
of the rendering code itself, so that no stale frame outlives a change.
"""

import contextlib
import hashlib
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Self

import PIL

from sdoml_core.channels import CHANNELS, Channel
from sdoml_core.slots import archive_path
from sdoml_dagster.demo.absences import PERFECT, condition, exists
from sdoml_dagster.demo.aia_file import render_aia
from sdoml_dagster.demo.aia_render import PASSBANDS
from sdoml_dagster.demo.hmi_render import render_hmi

AIA_TREE = "/data/aia/synoptic/"
HMI_TREE = "/data/hmi/images/"

_AIA_NAME = re.compile(r"AIA(\d{8}_\d{4})_(\d{4})\.fits")
_HMI_NAME = re.compile(r"(\d{8}_\d{4})00_M_1k\.jpg")


def default_cache() -> Path:
    """The user's cache folder for rendered frames."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "sdoml-demo-archive"


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the archive saw."""

    method: str
    path: str
    status: int
    connection: int
    """Requests of one connection share its number."""
    agent: str
    """The User-Agent header."""
    fault: str | None = None
    """The kind of fault that the answer had."""


@dataclass
class Log:
    """What the archive was asked, and over how many connections; safe to read at any time."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    """Opened so far."""
    open_connections: int = 0
    max_open_connections: int = 0
    in_flight: int = 0
    max_in_flight: int = 0
    """Most requests that were answered at the same time."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def connected(self) -> int:
        """Count a new connection and give it a number."""
        with self._lock:
            self.connections += 1
            self.open_connections += 1
            self.max_open_connections = max(self.max_open_connections, self.open_connections)
            return self.connections

    def disconnected(self) -> None:
        """Count the end of a connection."""
        with self._lock:
            self.open_connections -= 1

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Count a request as being in flight."""
        with self._lock:
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            yield
        finally:
            with self._lock:
                self.in_flight -= 1

    def add(self, request: Request) -> None:
        """Put a request on record."""
        with self._lock:
            self.requests.append(request)


class Frames:
    """Files of the archive by path, from the cache or rendered.

    Parameters
    ----------
    folder
        The cache.
    absences
        False: every frame that can exist is there and good.
    lag_days
        Frames younger than this are not there yet.
    """

    def __init__(self, folder: Path, *, absences: bool = True, lag_days: float = 0.0) -> None:
        kind = "as-in-life" if absences else "complete"
        self._folder = folder / f"{_rendering()}-{kind}"
        self._absences = absences
        self._lag = timedelta(days=lag_days)
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | None:
        """The file at a path such as ``/data/hmi/images/2024/…``, or None if there is none."""
        place = parse_path(path)
        if place is None:
            return None
        channel, minute = place
        if not exists(channel, minute) or minute > datetime.now(UTC) - self._lag:
            return None
        state = condition(channel, minute) if self._absences else PERFECT
        if state is None:
            return None
        file = self._folder / path.lstrip("/")
        with self._turn(path):
            with contextlib.suppress(FileNotFoundError):
                return file.read_bytes()
            if channel.instrument == "AIA":
                data = render_aia(minute, channel.wavelength, state)
            else:
                data = render_hmi(minute, state)
            _write(file, data)
            return data

    @contextlib.contextmanager
    def _turn(self, path: str) -> Iterator[None]:
        """Let one thread at a time render a path."""
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._locks.pop(path, None)


@cache
def _rendering() -> str:
    """A name for the present rendering: its code and the JPEG encoder's version."""
    digest = hashlib.sha256(PIL.__version__.encode())
    for file in sorted(files("sdoml_dagster.demo").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
    with os.fdopen(handle, "wb") as temporary:
        temporary.write(data)
    Path(name).replace(file)


def parse_path(path: str) -> tuple[Channel, datetime] | None:
    """Channel and minute of a path, or None where the archive's tree has no such place."""
    name = path.rsplit("/", 1)[-1]
    try:
        if match := _AIA_NAME.fullmatch(name):
            if int(match[2]) not in PASSBANDS:
                return None
            channel, tree = CHANNELS[f"AIA_{match[2]}"], AIA_TREE
        elif match := _HMI_NAME.fullmatch(name):
            channel, tree = CHANNELS["HMI_M"], HMI_TREE
        else:
            return None
        minute = datetime.strptime(match[1], "%Y%m%d_%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (channel, minute) if path == tree + archive_path(channel, minute) else None


class Archive:
    """A running archive; a context manager.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    cache
        Folder for rendered frames; the user's cache folder without.
    latency
        Seconds to wait before each answer.
    lag_days
        Frames younger than this are not there yet.
    absences
        False: every frame that can exist is there and good.

    Examples
    --------
    >>> with Archive() as archive:
    ...     print(archive.aia_root)
    http://127.0.0.1:40123/data/aia/synoptic
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        cache: Path | None = None,
        latency: float = 0.0,
        lag_days: float = 0.0,
        absences: bool = True,
    ) -> None:
        self.log = Log()
        self.latency = latency
        self.frames = Frames(cache or default_cache(), absences=absences, lag_days=lag_days)
        self._server = _Server((host, port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def aia_root(self) -> str:
        """For ``SDOML_AIA_ROOTS``."""
        return self.url + AIA_TREE.rstrip("/")

    @property
    def hmi_root(self) -> str:
        """For ``SDOML_HMI_ROOTS``."""
        return self.url + HMI_TREE.rstrip("/")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.hang_up()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    block_on_close = False

    def __init__(self, address: tuple[str, int], archive: Archive) -> None:
        self.archive = archive
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._sockets.discard(connection)

    def hang_up(self) -> None:
        """End the connections that clients keep alive."""
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave when they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Apache"
    sys_version = ""
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._number = self.server.archive.log.connected()
        self.server.opened(self.connection)

    def finish(self) -> None:
        self.server.closed(self.connection)
        self.server.archive.log.disconnected()
        super().finish()

    def do_GET(self) -> None:
        archive = self.server.archive
        with archive.log.answering():
            if archive.latency:
                time.sleep(archive.latency)
            body = archive.frames.get(self.path)
            if body is None:
                self._answer(HTTPStatus.NOT_FOUND, _NOT_FOUND, "text/html; charset=iso-8859-1")
            elif self.path.endswith(".jpg"):
                self._answer(HTTPStatus.OK, body, "image/jpeg")
            else:
                self._answer(HTTPStatus.OK, body, "application/fits")

    do_HEAD = do_GET  # noqa: N815

    def _answer(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self._record(status)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _record(self, status: HTTPStatus) -> None:
        self.server.archive.log.add(
            Request(
                method=self.command,
                path=self.path,
                status=int(status),
                connection=self._number,
                agent=self.headers.get("User-Agent", ""),
            )
        )

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Requests are in the log object, not on the terminal."""


_NOT_FOUND = b"""<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">
<html><head>
<title>404 Not Found</title>
</head><body>
<h1>Not Found</h1>
<p>The requested URL was not found on this server.</p>
</body></html>
"""
