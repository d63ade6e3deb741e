"""A proxy between the workers and the S3 server that injects errors.

The file ``faults`` in the working folder contains the number of requests that will fail. The errors
alternate between 503 without forwarding the request and 500 after forwarding it. Each error is
logged as a line in ``answered``. All other requests are forwarded unchanged with their signatures.
"""

import http.client
import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_LEFT = Path("faults")
_TURN = itertools.cycle((503, 500))
_lock = threading.Lock()


class _Between(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_host = ""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._fault()
        if fault == 503:
            self._reply(fault, [], _error("ServiceUnavailable"))
            return
        connection = http.client.HTTPConnection(self.server_host, timeout=30)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in {"connection", "expect"}:
                connection.putheader(name, value)
        connection.endheaders(body)
        with connection.getresponse() as response:
            content = response.read()
            headers = response.getheaders()
            status = response.status
        connection.close()
        if fault is None:
            self._reply(status, headers, content)
        else:
            self._reply(fault, [], _error("InternalError"))

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _fault(self) -> int | None:
        """Return the status of the error to inject, or ``None``."""
        with _lock:
            left = int(_LEFT.read_text()) if _LEFT.exists() else 0
            if not left:
                return None
            _LEFT.write_text(str(left - 1))
            fault = next(_TURN)
            with Path("answered").open("a") as notes:
                notes.write(f"{fault} {self.command} {self.path}\n")
            return fault

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        dropped = {"connection", "transfer-encoding", "date", "server"}
        kept = [(name, value) for name, value in headers if name.lower() not in dropped]
        if self.command != "HEAD":
            kept = [(name, value) for name, value in kept if name.lower() != "content-length"]
            kept += [("Content-Length", str(len(content)))]
        self.send_response(status)
        for name, value in kept:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing: the S3 server has its own log."""


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>planned</Message></Error>".encode()


def main(host: str, port: str, server: str) -> None:
    _Between.server_host = server
    ThreadingHTTPServer((host, int(port)), _Between).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
