"""Canceling the client ends requests that are waiting for a stalled archive."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from sdoml_core.errors import OutageError
from sdoml_dagster.archive.client import ArchiveClient

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nfirst bytes"


class Stalled:
    """A server that accepts requests and never finishes a response."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.root = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._connections.append(connection)
            self.requests += connection.recv(4096).count(b"GET ")
            connection.sendall(self._answer)

    def close(self) -> None:
        for opened in (*self._connections, self._server):
            opened.close()


@pytest.fixture(params=[b"", HEAD], ids=["before the response", "during the response"])
def stalled(request: pytest.FixtureRequest) -> Iterator[Stalled]:
    archive = Stalled(request.param)
    yield archive
    archive.close()


def test_cancel_aborts_pending_requests_and_starts_no_new_ones(stalled: Stalled) -> None:
    ended: list[float] = []

    def fetch(client: ArchiveClient, number: int) -> None:
        with pytest.raises(OutageError):
            client.fetch(f"{number}.fits", bytes)
        ended.append(time.monotonic())

    with ArchiveClient([stalled.root], connections=2, read_timeout=60) as client:
        threads = [threading.Thread(target=fetch, args=(client, n)) for n in range(6)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 10
        while stalled.requests < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        canceled = time.monotonic()
        client.cancel()
        for thread in threads:
            thread.join(10)
    assert len(ended) == 6
    assert max(ended) - canceled < 30
    assert stalled.requests == 2
