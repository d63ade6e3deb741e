"""The archive's log of requests and connections."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One request."""

    method: str
    path: str
    status: int
    connection: int
    """Number of the connection that the request used."""
    agent: str
    """The User-Agent header."""
    fault: str | None = None
    """Kind of fault in the response. None for a normal response."""


@dataclass
class Log:
    """All requests and connections. It can be read at any time."""

    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    """Number of connections opened so far."""
    open_connections: int = 0
    max_open_connections: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    """Number of requests in progress, by client address."""
    max_in_flight: int = 0
    """Largest number of requests in progress at the same time."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def connected(self) -> int:
        """Count a new connection and return its number."""
        with self._lock:
            self.connections += 1
            self.open_connections += 1
            self.max_open_connections = max(self.max_open_connections, self.open_connections)
            return self.connections

    def disconnected(self) -> None:
        """Count a closed connection."""
        with self._lock:
            self.open_connections -= 1

    @contextlib.contextmanager
    def answering(self, client: str) -> Iterator[None]:
        """Count a request as in flight while the context is active."""
        with self._lock:
            self.in_flight[client] += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight.total())
        try:
            yield
        finally:
            with self._lock:
                self.in_flight[client] -= 1

    def add(self, request: Request) -> None:
        """Record a request."""
        with self._lock:
            self.requests.append(request)
