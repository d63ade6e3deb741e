"""The archive client, tested with servers that fail in many ways."""

import gzip
import itertools
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sdoml_core.errors import (
    CorruptFrameError,
    DoubtfulFrameError,
    FrameError,
    FrameRefusedError,
    NotAnImageError,
    OutageError,
)
from sdoml_dagster.archive import client as archive_module
from sdoml_dagster.archive.circuit_breaker import BREAKER_FAILURES, Mirror
from sdoml_dagster.archive.client import ArchiveClient, FrameMissingError
from tests.support.scripted_server import Handler, Server, serving


def intact(data: bytes) -> str:
    if data != b"frame":
        raise CorruptFrameError("not the frame")
    return "checked"


def client(*servers: Server | str, **options: float) -> ArchiveClient:
    roots = [server if isinstance(server, str) else server.root for server in servers]
    defaults = {"attempts": 3, "pause": 0.01, "read_timeout": 1.0, "connect_timeout": 1.0}
    return ArchiveClient(roots, **defaults | options)  # type: ignore[arg-type]


def in_turn(*answers: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Send each response once, and then repeat the last one forever."""
    turn = itertools.chain(answers, itertools.repeat(answers[-1]))

    def behave(handler: Handler) -> None:
        next(turn)(handler)

    return behave


def good(handler: Handler) -> None:
    handler.answer()


def status(code: int, **headers: str) -> Callable[[Handler], None]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda handler: handler.answer(code, b"<html>sorry</html>", named)


def body(data: bytes) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(body=data)


def short_of_its_promise(handler: Handler) -> None:
    handler.close_connection = True
    handler.answer(body=b"fra", headers={"Content-Length": "5"})


def reset(handler: Handler) -> None:
    handler.close_connection = True
    handler.answer(body=b"f", headers={"Content-Length": "5"})
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.rfile.close()
    handler.connection.close()


def stalled(handler: Handler) -> None:
    handler.close_connection = True
    handler.answer(body=b"f", headers={"Content-Length": "5"})
    time.sleep(2)


def trickle(handler: Handler) -> None:
    handler.close_connection = True
    handler.answer(body=b"", headers={"Content-Length": "100"})
    for _ in range(100):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def chunked_and_cut(handler: Handler) -> None:
    handler.close_connection = True
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"3\r\nfra\r\n")


@pytest.fixture
def dead_root() -> Iterator[str]:
    """The address of a mirror on which no server is listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/tree"


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        status(408),
        status(429, Retry_After="0"),
        status(503, Retry_After="0"),
        status(503, Retry_After="yesterday"),
        short_of_its_promise,
        chunked_and_cut,
        reset,
        stalled,
        trickle,
        body(b"<html>maintenance</html>"),
        body(b""),
        status(404),
    ],
)
def test_no_file_is_lost_to_temporary_faults(fault: Callable[[Handler], None]) -> None:
    with serving(in_turn(fault, good)) as server, client(server) as archive:
        started = time.monotonic()
        fetched = archive.fetch("day/file", intact)
        assert time.monotonic() - started < 4, "a response that trickles must be aborted"
    assert (fetched.data, fetched.value) == (b"frame", "checked")
    assert [path for _, path in server.asked] == ["/tree/day/file"] * 2


def test_404_is_confirmed_by_the_next_mirror() -> None:
    with serving(status(404)) as first, serving(good) as second, client(first, second) as archive:
        assert archive.fetch("file", intact).data == b"frame"
    assert len(first.asked) == len(second.asked) == 1


def test_frame_is_missing_if_all_mirrors_return_404() -> None:
    with serving(status(404)) as first, serving(status(410)) as second:
        with client(first, second) as archive, pytest.raises(FrameMissingError) as error:
            archive.fetch("file", intact)
    assert str(error.value) == "not in the archive"
    assert len(first.asked) == len(second.asked) == 1


def test_404_is_accepted_if_the_other_mirror_is_dead(dead_root: str) -> None:
    with serving(status(404)) as first, client(first, dead_root) as archive:
        with pytest.raises(FrameMissingError, match=r"not in the archive \(.*Connection") as error:
            archive.fetch("file", intact)
    assert dead_root in str(error.value)


def test_bad_file_is_requested_twice_from_each_mirror() -> None:
    html = body(b"<html>")
    with serving(html) as first, serving(html) as second, client(first, second) as archive:
        with pytest.raises(CorruptFrameError):
            archive.fetch("file", intact)
    assert len(first.asked) == len(second.asked) == 2


def test_server_errors_are_reported_as_an_outage_with_details() -> None:
    with serving(status(500)) as server, client(server) as archive:
        with pytest.raises(OutageError, match=r"day/file \(http://127.*/tree: HTTP 500 Internal"):
            archive.fetch("day/file", intact)
    assert len(server.asked) == 3


@pytest.mark.parametrize("cut", [short_of_its_promise, chunked_and_cut])
def test_truncated_bodies_are_reported_as_an_outage(
    cut: Callable[[Handler], None],
) -> None:
    with serving(cut) as server, client(server) as archive:
        with pytest.raises(OutageError, match="no answer for file"):
            archive.fetch("file", intact)
    assert len(server.asked) == 3


def test_content_length_is_ignored_for_chunked_bodies() -> None:
    def chunked(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Content-Length", "99")
        handler.end_headers()
        handler.wfile.write(b"5\r\nframe\r\n0\r\n\r\n")

    with serving(chunked) as server, client(server) as archive:
        assert archive.fetch("file", intact).data == b"frame"
    assert len(server.asked) == 1


def test_403_is_not_retried() -> None:
    with serving(status(403)) as server, client(server) as archive:
        with pytest.raises(FrameRefusedError, match="HTTP 403 Forbidden"):
            archive.fetch("file", intact)
    assert len(server.asked) == 1


@pytest.mark.parametrize("headers", [{"Content-Encoding": "gzip"}, {}])
def test_unrequested_gzip_is_decompressed(headers: dict[str, str]) -> None:
    packed = gzip.compress(b"frame")
    behave = lambda handler: handler.answer(body=packed, headers=headers)  # noqa: E731
    with serving(behave) as server, client(server) as archive:
        assert archive.fetch("file", intact).data == b"frame"


def test_wrong_gzip_header_is_ignored() -> None:
    behave = lambda handler: handler.answer(headers={"Content-Encoding": "gzip"})  # noqa: E731
    with serving(behave) as server, client(server) as archive:
        assert archive.fetch("file", intact).data == b"frame"


def test_truncated_gzip_stream_is_fetched_again() -> None:
    packed = gzip.compress(bytes(100_000) + b"frame")
    with serving(in_turn(body(packed[:-9]), body(gzip.compress(b"frame")))) as server:
        with client(server) as archive:
            assert archive.fetch("file", intact).data == b"frame"
    assert len(server.asked) == 2


def test_gzip_bomb_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1 << 20)
    with serving(body(gzip.compress(bytes(2 << 20)))) as server, client(server) as archive:
        with pytest.raises(NotAnImageError, match="larger than 1 MiB"):
            archive.fetch("file", intact)


def image(data: bytes) -> str:
    if data.startswith(b"<"):
        raise NotAnImageError("an HTML page")
    return intact(data)


def test_html_pages_in_place_of_all_images_are_reported_as_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.PATIENCE", 0.3)
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.FIRST_REST", 0.1)
    outcomes = []
    page = body(b"<html>maintenance</html>")
    with serving(page) as first, serving(page) as second, client(first, second) as archive:
        for number in range(30):
            with pytest.raises((NotAnImageError, OutageError)) as error:
                archive.fetch(str(number), image)
            outcomes.append(error.type)
    assert outcomes[-1] is OutageError
    assert outcomes.count(OutageError) > 24
    assert len(first.asked) + len(second.asked) < 30


def test_404_takes_precedence_over_an_html_page() -> None:
    page = body(b"<html>moved</html>")
    with serving(page) as first, serving(status(404)) as second, client(first, second) as archive:
        with pytest.raises(FrameMissingError):
            archive.fetch("file", image)


def doubtful(data: bytes) -> str:
    """Raise a doubt about every file that begins with d."""
    if data.startswith(b"d"):
        raise DoubtfulFrameError("odd", data.decode())
    return intact(data)


def test_doubtful_file_is_good_if_two_mirrors_agree() -> None:
    with serving(body(b"d1")) as first, serving(body(b"d1")) as second:
        with client(first, second) as archive:
            assert archive.fetch("file", doubtful).value == "d1"
    assert len(first.asked) == len(second.asked) == 1


def test_doubtful_file_is_replaced_by_a_good_one() -> None:
    with serving(in_turn(body(b"d1"), good)) as server, client(server) as archive:
        assert archive.fetch("file", doubtful).data == b"frame"


def test_two_of_three_doubtful_responses_must_agree() -> None:
    with serving(in_turn(body(b"d1"), body(b"d2"), body(b"d1"))) as server:
        with client(server, attempts=4) as archive:
            assert archive.fetch("file", doubtful).data == b"d1"
    with serving(in_turn(body(b"d1"), body(b"d2"), body(b"d3"))) as server:
        with client(server, attempts=4) as archive, pytest.raises(FrameError, match="odd"):
            archive.fetch("file", doubtful)
    assert len(server.asked) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honored_by_all_threads(form: str) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=2)
    value = "1" if form == "seconds" else format_datetime(moment, usegmt=True)
    with serving(in_turn(status(503, Retry_After=value), good)) as server:
        with client(server) as archive, ThreadPoolExecutor(3) as pool:
            first = pool.submit(archive.fetch, "0", intact)
            while not server.asked:
                time.sleep(0.005)
            time.sleep(0.1)
            others = [pool.submit(archive.fetch, str(n), intact) for n in (1, 2)]
            assert all(job.result().data == b"frame" for job in [first, *others])
    times = [when for when, _ in server.asked]
    assert len(times) == 4
    assert times[1] - times[0] > 0.9


def test_client_does_not_wait_for_a_long_retry_after() -> None:
    with serving(status(429, Retry_After="3600")) as server, client(server) as archive:
        started = time.monotonic()
        for name in ("a", "b"):
            with pytest.raises(OutageError, match="HTTP 429"):
                archive.fetch(name, intact)
        assert time.monotonic() - started < 60
    assert len(server.asked) == 1


def test_redirects_are_followed_up_to_a_limit() -> None:
    def hop(handler: Handler) -> None:
        hops = int(handler.path.rpartition("-")[2])
        if hops:
            handler.answer(302, b"moved", {"Location": f"file-{hops - 1}"})
        else:
            handler.answer()

    with serving(hop) as server, client(server) as archive:
        assert archive.fetch("file-5", intact).data == b"frame"
        with pytest.raises(FrameRefusedError, match="more than 5 redirects"):
            archive.fetch("file-6", intact)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/file", "http://[bad"])
def test_redirect_to_another_protocol_is_rejected(target: str) -> None:
    with serving(status(301, Location=target)) as server, client(server) as archive:
        with pytest.raises(FrameRefusedError, match="redirected to"):
            archive.fetch("file", intact)


def test_endless_body_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_BYTES", 1 << 20)

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.close_connection = True
        while True:
            handler.wfile.write(bytes(1 << 16))

    with serving(endless) as server, client(server) as archive:
        with pytest.raises(NotAnImageError, match="larger than 1 MiB"):
            archive.fetch("file", intact)


def test_connections_are_reused_and_bounded() -> None:
    connections: set[tuple[str, int]] = set()
    busy = threading.Semaphore(3)
    overrun = threading.Event()

    def behave(handler: Handler) -> None:
        if not busy.acquire(blocking=False):
            overrun.set()
        connections.add(handler.client_address)
        time.sleep(0.005)
        busy.release()
        handler.answer(404 if handler.path.endswith("7") else 200)

    with serving(behave) as server, client(server, connections=3) as archive:

        def fetch(number: int) -> bool:
            try:
                return bool(archive.fetch(str(number), intact))
            except FrameMissingError:
                return False

        with ThreadPoolExecutor(9) as pool:
            assert sum(pool.map(fetch, range(60))) == 54
    assert not overrun.is_set()
    assert len(connections) == 3


def test_client_sends_its_user_agent() -> None:
    agents: list[str | None] = []

    def behave(handler: Handler) -> None:
        agents.append(handler.headers["User-Agent"])
        handler.answer()

    with serving(behave) as server, client(server) as archive:
        archive.fetch("file", intact)
    assert agents[0] is not None
    assert agents[0].startswith("sdoml-lite/")


def test_dead_mirror_costs_almost_no_requests() -> None:
    with serving(status(500)) as dead, serving(good) as alive, client(dead, alive) as archive:
        for number in range(40):
            archive.fetch(str(number), intact)
    assert len(dead.asked) == BREAKER_FAILURES // 2
    assert len(alive.asked) == 40


def test_day_fails_quickly_if_the_archive_is_dead(
    dead_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.PATIENCE", 1.0)
    monkeypatch.setattr("sdoml_dagster.archive.circuit_breaker.FIRST_REST", 0.2)

    def fetch(number: int) -> None:
        with pytest.raises(OutageError, match="Connection"):
            archive.fetch(str(number), intact)

    started = time.monotonic()
    with client(dead_root, attempts=5, pause=0.5) as archive, ThreadPoolExecutor(8) as pool:
        list(pool.map(fetch, range(768)))
    assert time.monotonic() - started < 60  # waiting for each file would take four minutes


def test_no_file_is_lost_if_the_archive_recovers() -> None:
    back = time.monotonic() + 1.5

    def behave(handler: Handler) -> None:
        handler.answer(200 if time.monotonic() > back else 500)

    with serving(behave) as server, client(server, attempts=2) as archive:
        archive.mirrors[0].fail("", asked=time.monotonic(), now=time.monotonic())
        for _ in range(BREAKER_FAILURES):
            archive.mirrors[0].fail("", asked=time.monotonic(), now=time.monotonic())
        with ThreadPoolExecutor(8) as pool:
            files = list(pool.map(lambda n: archive.fetch(str(n), intact), range(50)))
    assert len(files) == 50


def test_cancel_wakes_waiting_callers() -> None:
    with serving(status(503, Retry_After="60")) as server, client(server) as archive:
        threading.Timer(0.2, archive.cancel).start()
        started = time.monotonic()
        with pytest.raises(OutageError):
            archive.fetch("file", intact)
        assert time.monotonic() - started < 30


class TestMirror:
    """Tests of the circuit breaker alone, with a simulated clock."""

    def failing(self, times: int, *, until: float = 0.0) -> Mirror:
        mirror = Mirror("http://host", probe_seconds=9)
        mirror.succeed()
        for _ in range(times):
            mirror.fail("HTTP 500", asked=until, now=until)
        return mirror

    def test_breaker_stays_closed_after_a_few_failures(self) -> None:
        mirror = self.failing(BREAKER_FAILURES - 1)
        assert mirror.admit(0.0)
        assert not mirror.hopeless(100.0)

    def test_breaker_opens_sooner_if_the_mirror_never_responded(self) -> None:
        mirror = Mirror("http://host")
        for _ in range(BREAKER_FAILURES // 2):
            mirror.fail("timed out", asked=0.0, now=30.0)
        assert mirror.hopeless(30.0)
        assert mirror.admit(32.1)

    def test_open_breaker_admits_one_probe_after_the_pause(self) -> None:
        mirror = self.failing(BREAKER_FAILURES)
        assert not mirror.admit(1.9)
        assert mirror.admit(2.1)
        assert not mirror.admit(2.2)
        assert mirror.admit(11.2), "a probe that never ends must not block other callers"

    def test_only_failed_probes_double_the_pause(self) -> None:
        mirror = self.failing(BREAKER_FAILURES + 5)
        assert mirror.wait(0.0) == 2
        assert mirror.admit(2.0)
        mirror.fail("HTTP 500", asked=2.0, now=2.5)
        assert mirror.wait(2.5) == 4

    def test_success_closes_the_breaker(self) -> None:
        mirror = self.failing(BREAKER_FAILURES)
        assert mirror.admit(2.0)
        mirror.succeed()
        assert mirror.wait(2.0) == 0
        assert all(mirror.admit(2.0) for _ in range(5))

    def test_mirror_is_dead_after_half_a_minute_but_still_probed(self) -> None:
        mirror = self.failing(BREAKER_FAILURES)
        assert not mirror.hopeless(1.0)
        mirror.admit(29.0)
        mirror.fail("HTTP 500", asked=29.0, now=31.0)
        assert mirror.hopeless(31.0)
        assert mirror.admit(35.0)

    def test_success_of_another_request_does_not_end_a_requested_pause(self) -> None:
        mirror = Mirror("http://host")
        mirror.fail("HTTP 429", asked=0.0, now=0.0, retry_after=3600)
        mirror.succeed()
        assert mirror.hopeless(1.0)
        assert not mirror.admit(1.0)


@pytest.mark.parametrize("exempt", [None, "example.org"])
def test_requests_to_loopback_bypass_the_proxy(
    exempt: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no proxy listens at this address
    if exempt:
        monkeypatch.setenv("NO_PROXY", exempt)
    with serving(good) as server, client(server) as archive:
        assert archive.fetch("frame", intact).data == b"frame"


def test_requests_to_other_hosts_use_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(good) as proxy:
        monkeypatch.setenv("http_proxy", proxy.root)
        with client("http://archive.invalid/data") as archive:
            assert archive.fetch("frame", intact).data == b"frame"
