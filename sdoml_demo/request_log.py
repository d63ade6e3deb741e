"""What the archive saw: requests, and how many connections and answers at a time."""

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


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
    in_flight: Counter[str] = field(default_factory=Counter)
    """Requests that are being answered, by the client's address."""
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
    def answering(self, client: str) -> Iterator[None]:
        """Count a request as being in flight."""
        with self._lock:
            self.in_flight[client] += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight.total())
        try:
            yield
        finally:
            with self._lock:
                self.in_flight[client] -= 1

    def add(self, request: Request) -> None:
        """Put a request on record."""
        with self._lock:
            self.requests.append(request)
