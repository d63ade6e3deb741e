"""Each kind of fault, as a client sees it over a real socket."""

import gzip
import io
import socket
import time
import warnings
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from astropy.io import fits
from PIL import Image

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import SettingError
from sdoml_dagster.archive.tree import archive_path
from sdoml_demo.faults import Fault, FaultPlan, flip
from sdoml_demo.server import Archive

MINUTE = datetime(2014, 2, 3, 12, 14, tzinfo=UTC)
AIA_PATH = archive_path(CHANNELS["AIA_0193"], MINUTE)
HMI_PATH = archive_path(CHANNELS["HMI_M"], MINUTE + timedelta(minutes=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("archive")


@pytest.fixture(scope="module")
def intact(cache):
    with Archive(cache=cache, absences=False) as archive:
        return {
            "aia": requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=30).content,
            "hmi": requests.get(f"{archive.hmi_root}/{HMI_PATH}", timeout=30).content,
        }


@pytest.fixture
def failing(cache):
    """A function that starts an archive whose first response for each path has a given fault."""
    running = []

    def start(fault, **options):
        archive = Archive(
            cache=cache, absences=False, faults=FaultPlan(rates={fault: 1.0}, **options)
        )
        running.append(archive.__enter__())
        return archive

    yield start
    for archive in running:
        archive.__exit__()


def read_all(client):
    while client.recv(65536):
        pass


def aia(archive, *, wait=30.0, stream=False):
    return requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=(5, wait), stream=stream)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.NOT_FOUND, 404),
        (Fault.FORBIDDEN, 403),
        (Fault.TOO_MANY_REQUESTS, 429),
        (Fault.SERVER_ERROR, 500),
        (Fault.UNAVAILABLE, 503),
    ],
)
def test_refused_requests_get_the_frame_on_the_next_attempt(failing, intact, fault, status):
    archive = failing(fault, retry_after=7)
    refused = aia(archive)
    assert refused.status_code == status
    assert refused.text.startswith("<!DOCTYPE HTML")
    assert refused.headers.get("Retry-After") == ("7" if status in (429, 503) else None)
    assert aia(archive).content == intact["aia"]
    assert [request.fault for request in archive.log.requests] == [fault.value, None]


def test_reset_fault_ends_the_body_with_a_connection_reset(failing, intact):
    archive = failing(Fault.RESET)
    address = urlsplit(archive.aia_root)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        path = f"{address.path}/{AIA_PATH}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            read_all(client)
    assert aia(archive).content == intact["aia"]


def test_cut_fault_closes_the_connection_before_the_declared_length(failing, intact):
    archive = failing(Fault.CUT)
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        aia(archive)
    assert aia(archive).content == intact["aia"]


def test_short_file_fault_declares_the_short_length(failing, intact):
    answer = aia(failing(Fault.SHORT))
    assert answer.status_code == 200
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert len(answer.content) < len(intact["aia"])
    assert intact["aia"].startswith(answer.content)


def test_html_fault_returns_a_page_with_status_200(failing):
    answer = aia(failing(Fault.HTML))
    assert answer.status_code == 200
    assert b"<html>" in answer.content


def test_empty_fault_returns_no_body_with_status_200(failing):
    answer = aia(failing(Fault.EMPTY))
    assert (answer.status_code, answer.content) == (200, b"")


def test_gzip_fault_sends_a_compressed_frame_with_the_encoding_header(failing, intact):
    answer = aia(failing(Fault.GZIP), stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    packed = answer.raw.read(decode_content=False)
    assert len(packed) == int(answer.headers["Content-Length"])
    assert gzip.decompress(packed) == intact["aia"]


def test_stall_fault_stops_sending_but_keeps_the_connection_open(failing):
    archive = failing(Fault.STALL)
    answer = aia(archive, stream=True, wait=0.4)
    assert len(answer.raw.read(200_000)) == 200_000
    with pytest.raises(requests.exceptions.ConnectionError, match="timed out"):
        list(answer.iter_content(65536))


def test_trickle_fault_sends_slowly_but_never_times_out(failing, intact):
    archive = failing(Fault.TRICKLE)
    begin, got = time.monotonic(), 0
    with requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=(5, 0.4), stream=True) as answer:
        assert int(answer.headers["Content-Length"]) == len(intact["aia"])
        for piece in answer.iter_content(16):
            got += len(piece)
            if time.monotonic() - begin > 1:
                break
    assert 64 <= got < 10_000


def test_server_notices_a_disconnected_client(failing):
    archive = failing(Fault.TRICKLE)
    with requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=5, stream=True):
        pass
    deadline = time.monotonic() + 5
    while archive.log.open_connections and time.monotonic() < deadline:
        time.sleep(0.02)
    assert archive.log.open_connections == 0


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.TRICKLE])
def test_stalled_connections_are_closed_after_the_planned_time(failing, fault):
    archive = failing(fault, stall_seconds=0.3)
    begin = time.monotonic()
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        aia(archive)
    assert 0.2 < time.monotonic() - begin < 5


def test_flipped_bits_break_the_checksum(failing, intact):
    damaged = aia(failing(Fault.FLIP)).content
    assert len(damaged) == len(intact["aia"])
    assert sum(a != b for a, b in zip(damaged, intact["aia"], strict=True)) in (1, 2, 3)
    # With valid CHECKSUM and DATASUM cards, the ones' complement sum of an HDU has only 1 bits.
    assert int(np.frombuffer(intact["aia"][2880:], ">u4").sum(dtype=np.uint64)) % 0xFFFFFFFF == 0
    assert int(np.frombuffer(damaged[2880:], ">u4").sum(dtype=np.uint64)) % 0xFFFFFFFF != 0


def test_flipped_bit_in_a_jpg_damages_its_markers(intact):
    for k in range(20):
        damaged = flip(f"{k}.jpg", intact["hmi"])
        assert (damaged[:2], damaged[-2:]) != (b"\xff\xd8", b"\xff\xd9")


def test_wrong_frame_fault_sends_another_intact_frame(failing, intact):
    archive = failing(Fault.WRONG)
    seen = set()
    for minute in (14, 16, 18, 20, 22, 24):
        path = archive_path(CHANNELS["AIA_0193"], MINUTE.replace(minute=minute))
        content = requests.get(f"{archive.aia_root}/{path}", timeout=30).content
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(io.BytesIO(content), checksum=True) as hdus:
                header = hdus[1].header
                named = (193, f"2014-02-03T12:{minute}")
                found = (header["WAVELNTH"], header["DATE-OBS"][:16])
        assert found != named
        seen.add((found[0] == named[0], found[1] == named[1]))
    assert seen == {(True, False), (False, True)}
    small = requests.get(f"{archive.hmi_root}/{HMI_PATH}", timeout=30).content
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (512, 512)


def test_stopping_does_not_wait_for_stalled_clients(cache):
    plan = FaultPlan(rates={Fault.STALL: 1.0})
    with Archive(cache=cache, absences=False, faults=plan) as archive:
        answer = requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=5, stream=True)
        begin = time.monotonic()
    assert time.monotonic() - begin < 60
    answer.close()


def paths(count):
    first = datetime(2014, 2, 3, tzinfo=UTC)
    return [
        archive_path(CHANNELS["AIA_0193"], first + timedelta(minutes=2 * k)) for k in range(count)
    ]


def test_plan_is_deterministic_and_keeps_its_rates():
    plan = FaultPlan(rates={Fault.SERVER_ERROR: 0.1, Fault.RESET: 0.05}, seed=3)
    chosen = [plan.choose(path, 1) for path in paths(4000)]
    assert chosen.count(Fault.SERVER_ERROR) / 4000 == pytest.approx(0.1, abs=0.02)
    assert chosen.count(Fault.RESET) / 4000 == pytest.approx(0.05, abs=0.015)
    assert chosen == [plan.choose(path, 1) for path in paths(4000)]
    other = FaultPlan(rates=plan.rates, seed=4)
    assert chosen != [other.choose(path, 1) for path in paths(4000)]


def test_plan_affects_first_or_all_responses():
    path = paths(1)[0]
    for attempts, expected in ((1, [1, 0, 0, 0]), (3, [1, 1, 1, 0]), (None, [1, 1, 1, 1])):
        plan = FaultPlan(rates={Fault.EMPTY: 1.0}, attempts=attempts)
        assert [plan.choose(path, k) is Fault.EMPTY for k in (1, 2, 3, 4)] == expected


def test_plan_affects_only_matching_paths():
    path, other = paths(2)
    plan = FaultPlan(rates={Fault.FORBIDDEN: 1.0}, match=path, attempts=None)
    assert plan.choose(path, 1) is Fault.FORBIDDEN
    assert plan.choose(other, 1) is None
    assert FaultPlan.parse("403=1,match=0193.fits").match == "0193.fits"


def test_plan_is_parsed_from_text():
    plan = FaultPlan.parse("500=0.1, reset=0.05,attempts=always,seed=9,retry_after=3")
    assert plan.rates == {Fault.SERVER_ERROR: 0.1, Fault.RESET: 0.05}
    assert (plan.attempts, plan.seed, plan.retry_after) == (None, 9, 3)
    assert FaultPlan.parse("") == FaultPlan()
    assert sum(FaultPlan.parse("all=0.2").rates.values()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "text", ["plague=1", "500=lots", "500=0.7,404=0.7", "404=-1", "attempts=0"]
)
def test_bad_plans_are_rejected(text):
    with pytest.raises(SettingError):
        FaultPlan.parse(text)
