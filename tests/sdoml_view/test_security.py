"""Other sites and hostile datasets cannot read from the viewer or inject code."""

import hashlib
import http.client
import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from sdoml_core.errors import SettingError
from sdoml_view.server import listen


def raw(viewer: str, method: str, path: str, headers: dict[str, str] | None = None):
    """Send a request whose path is not normalized."""
    connection = http.client.HTTPConnection(urlsplit(viewer).netloc, timeout=60)
    with closing(connection):
        connection.request(method, path, headers=headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.getheaders())


def test_server_listens_only_on_loopback() -> None:
    with listen(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(SettingError, match="--port 0"):
            listen(port)


def test_viewer_is_not_reachable_at_other_addresses(viewer: str) -> None:
    address = socket.gethostbyname(socket.gethostname())
    if address.startswith("127."):
        address = "127.0.0.2"  # another address of this machine
    with (
        pytest.raises(ConnectionError),
        socket.create_connection((address, urlsplit(viewer).port), 5),
    ):
        pass


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static//etc/passwd",
        "/static/..\\app.py",
        "/static/%00",
        "/../../etc/passwd",
        "/index.parquet",
        "/api/../../index.parquet",
    ],
)
def test_paths_outside_the_static_files_are_rejected(viewer: str, path: str) -> None:
    status, body, _ = raw(viewer, "GET", path)
    assert status in {400, 404}
    assert b"root:" not in body
    assert b"starlette" not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:evil", ""])
def test_other_host_names_are_rejected(viewer: str, host: str) -> None:
    assert raw(viewer, "GET", "/api/dataset", {"Host": host})[0] == 421
    assert raw(viewer, "GET", "/", {"Host": host})[0] == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_from_other_sites_are_rejected(viewer: str, headers: dict[str, str]) -> None:
    assert raw(viewer, "GET", "/api/dataset", headers)[0] == 403
    assert raw(viewer, "POST", "/api/series", headers)[0] == 403


def test_link_from_another_site_can_only_open_the_page(viewer: str) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert raw(viewer, "GET", "/", link)[0] == 200
    assert raw(viewer, "GET", "/api/dataset", link)[0] == 403
    assert raw(viewer, "GET", "/", link | {"Host": "evil.example"})[0] == 421


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/frames", "/static/main.js"])
def test_write_methods_are_rejected(viewer: str, method: str, path: str) -> None:
    assert raw(viewer, method, path)[0] == 405


@pytest.mark.parametrize("path", ["/", "/static/main.js", "/api/dataset", "/api/frames", "/none"])
def test_every_response_has_the_security_policy(viewer: str, path: str) -> None:
    headers = raw(viewer, "GET", path)[2]
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers


def test_page_loads_nothing_from_other_hosts(viewer: str) -> None:
    page = requests.get(viewer, timeout=60).text
    assert "http://" not in page
    assert "https://" not in page
    assert "<script>" not in page
    assert " style=" not in page


def test_viewing_does_not_change_the_dataset(viewer: str, release: Path) -> None:
    def content() -> dict[str, str]:
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in release.iterdir()
        }

    before = content()
    query = {"start": "2022-11-01", "end": "2022-11-02"}
    for path in ("dataset", "calendar", "curves", "movie", "slots"):
        assert requests.get(f"{viewer}api/{path}", params=query, timeout=60).ok
    table = b"time,value\n2022-11-01,1\n2022-11-02,2\n"
    assert requests.post(f"{viewer}api/series", data=table, timeout=60).ok
    assert content() == before
