"""The server: the JSOC's two image trees over HTTP, rendered on request."""

import contextlib
import gzip
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

from sdoml_demo.clock import Clock
from sdoml_demo.faults import Fault, FaultPlan, flip
from sdoml_demo.files import AIA_TREE, HMI_TREE, Frames, default_cache
from sdoml_demo.live_tree import LivePlan, LiveTree, Response, http_date
from sdoml_demo.request_log import Log, Request

_HTML = "text/html; charset=iso-8859-1"


class Archive:
    """A simulated archive. It serves requests inside its ``with`` block.

    Parameters
    ----------
    host, port
        Address to listen on. Port 0 selects a free port.
    cache
        Folder for rendered frames. Defaults to the user's cache folder.
    latency
        Seconds to wait before each response.
    lag_days
        Days until a frame is published.
    absences
        If False, every frame that can exist is present and good.
    faults
        Transport faults to simulate. Defaults to none.
    alter
        Called with the path and the body of each frame. Returns the body to serve. Use this to
        serve wrong frames (see `sdoml_demo.corruptions`).
    clock
        Time of the archive. Defaults to the real time.
    live
        If given, also serve the near-real-time tree, with these faults. Recent HMI images then
        appear about an hour after the exposure, with the quick-look label.

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
        faults: FaultPlan | None = None,
        alter: Callable[[str, bytes], bytes] | None = None,
        clock: Clock | None = None,
        live: LivePlan | None = None,
    ) -> None:
        self.log = Log()
        self.latency = latency
        self.faults = faults or FaultPlan()
        self.alter = alter
        self._attempts: Counter[str] = Counter()
        self._attempts_lock = threading.Lock()
        self.clock = clock or Clock()
        self.frames = Frames(
            cache or default_cache(), absences=absences, lag_days=lag_days, now=self.clock.now
        )
        self.live = None if live is None else LiveTree(self.clock, self.frames, live)
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
        """Value for ``SDOML_AIA_ROOTS``."""
        return self.url + AIA_TREE.rstrip("/")

    @property
    def hmi_root(self) -> str:
        """Value for ``SDOML_HMI_ROOTS``."""
        return self.url + HMI_TREE.rstrip("/")

    def next_fault(self, path: str) -> Fault | None:
        """Return the fault for the next request for a path. Each call counts as one attempt."""
        with self._attempts_lock:
            self._attempts[path] += 1
            attempt = self._attempts[path]
        return self.faults.choose(path, attempt)

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
        """Close idle connections that clients keep alive."""
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Do not print errors, because clients may disconnect at any time."""


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
        with archive.log.answering(self.client_address[0]):
            if archive.latency:
                time.sleep(archive.latency)
            live = archive.live.respond(self.path) if archive.live else None
            if live is not None and live.status is not HTTPStatus.OK:
                self._respond(live.status, _page(live.status), _HTML)
                return
            if live is not None and self._unchanged(live):
                self._respond(HTTPStatus.NOT_MODIFIED, b"", live.kind)
                return
            body = archive.frames.get(self.path) if live is None else live.body
            if body is None:
                self._respond(HTTPStatus.NOT_FOUND, _page(HTTPStatus.NOT_FOUND), _HTML)
                return
            if archive.alter is not None:
                body = archive.alter(self.path, body)
            fault = archive.next_fault(self.path) if self.command == "GET" else None
            if fault is None and live is not None:
                self._respond(HTTPStatus.OK, body, live.kind, headers=_validators(live))
            elif fault is None:
                self._respond(HTTPStatus.OK, body, self._content_type())
            else:
                with contextlib.suppress(OSError):  # clients may disconnect after a bad response
                    self._misbehave(fault, body, _validators(live) if live else {})

    do_HEAD = do_GET  # noqa: N815

    def _unchanged(self, response: Response) -> bool:
        """Return whether the client already has the version that would be served."""
        mark = self.headers.get("If-None-Match")
        return mark is not None and mark == _validators(response).get("ETag")

    def _content_type(self) -> str:
        return "image/jpeg" if self.path.endswith(".jpg") else "application/fits"

    def _misbehave(self, fault: Fault, body: bytes, validators: dict[str, str]) -> None:
        part = body[: len(body) * 3 // 5]
        match fault:
            case Fault.NOT_FOUND | Fault.FORBIDDEN | Fault.SERVER_ERROR:
                status = HTTPStatus(int(fault.value))
                self._respond(status, _page(status), _HTML, fault)
            case Fault.TOO_MANY_REQUESTS | Fault.UNAVAILABLE:
                status = HTTPStatus(int(fault.value))
                wait = str(self.server.archive.faults.retry_after)
                self._respond(status, _page(status), _HTML, fault, {"Retry-After": wait})
            case Fault.HTML:
                self._respond(HTTPStatus.OK, _page(HTTPStatus.OK), _HTML, fault)
            case Fault.GZIP:
                packed = gzip.compress(body, 1, mtime=0)
                headers = {"Content-Encoding": "gzip"} | validators
                self._respond(HTTPStatus.OK, packed, self._content_type(), fault, headers)
            case Fault.EMPTY:
                self._respond(HTTPStatus.OK, b"", self._content_type(), fault)
            case Fault.SHORT:
                self._respond(HTTPStatus.OK, part, self._content_type(), fault)
            case Fault.FLIP:
                damaged = flip(self.path, body)
                self._respond(HTTPStatus.OK, damaged, self._content_type(), fault)
            case Fault.WRONG:
                other = self.server.archive.frames.other(self.path)
                self._respond(HTTPStatus.OK, other, self._content_type(), fault)
            case _:  # RESET, CUT, STALL, TRICKLE
                self._head(HTTPStatus.OK, len(body), self._content_type(), fault)
                self._break_off(fault, body, part)

    def _break_off(self, fault: Fault, body: bytes, part: bytes) -> None:
        """Announce a complete body, but send only part of it or send it slowly."""
        self.close_connection = True
        if fault is Fault.TRICKLE:
            waited, sent = 0.0, 0
            while not self._hung_up(0.05, since=waited):
                self.wfile.write(body[sent : sent + 64])
                waited, sent = waited + 0.05, sent + 64
            return
        self.wfile.write(part)
        if fault is Fault.STALL:
            waited = 0.0
            while not self._hung_up(0.05, since=waited):
                waited += 0.05
        elif fault is Fault.RESET:
            # With a linger time of 0, close() sends RST. Both handles must be closed.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.connection.close()

    def _hung_up(self, seconds: float, *, since: float) -> bool:
        """Wait, and return whether the client has disconnected or `stall_seconds` have passed."""
        if since >= self.server.archive.faults.stall_seconds:
            return True
        readable, _, _ = select.select([self.connection], [], [], seconds)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _respond(
        self,
        status: HTTPStatus,
        body: bytes,
        content_type: str,
        fault: Fault | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._head(status, len(body), content_type, fault, headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(
        self,
        status: HTTPStatus,
        length: int,
        content_type: str,
        fault: Fault | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.server.archive.log.add(
            Request(
                method=self.command,
                path=self.path,
                status=int(status),
                connection=self._number,
                agent=self.headers.get("User-Agent", ""),
                fault=fault.value if fault else None,
            )
        )
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing, because requests are recorded in `Archive.log`."""


def _validators(response: Response) -> dict[str, str]:
    """Return the headers for conditional requests. Listings have none."""
    if response.modified is None:
        return {}
    mark = f"{len(response.body):x}-{int(response.modified.timestamp()):x}"
    return {"Last-Modified": http_date(response.modified), "ETag": f'"{mark}"'}


def _page(status: HTTPStatus) -> bytes:
    """Return a web page as Apache formats it."""
    title = "Maintenance" if status == HTTPStatus.OK else f"{status.value} {status.phrase}"
    return (
        '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n'
        f"<title>{title}</title>\n</head><body>\n<h1>{title}</h1>\n</body></html>\n"
    ).encode("ascii")
