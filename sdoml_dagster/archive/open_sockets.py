"""Track the sockets of an HTTP session, so that another thread can abort pending requests."""

import contextlib
import socket
import threading
import weakref
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class OpenSockets:
    """The sockets of a session. Thread-safe."""

    def __init__(self) -> None:
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._closed = False
        self._lock = threading.Lock()

    def add(self, opened: socket.socket) -> None:
        """Register a socket. After `shut_down`, close it immediately."""
        with self._lock:
            self._sockets.add(opened)
            if self._closed:
                _end(opened)

    def shut_down(self) -> None:
        """Shut down all current and future sockets. Threads that are using one get an error."""
        with self._lock:
            self._closed = True
            for opened in list(self._sockets):
                _end(opened)


def _end(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the socket may already be closed
        opened.shutdown(socket.SHUT_RDWR)


class TrackingAdapter(HTTPAdapter):
    """An HTTP adapter that registers every socket it opens."""

    def __init__(self, sockets: OpenSockets, **options: Any) -> None:
        self._sockets = sockets
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Create the pool manager with connections that register their sockets."""
        super().init_poolmanager(*arguments, **options)
        sockets = self._sockets

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.add(self.sock)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}
