"""The simulated archive's server, tested over real sockets."""

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from sdoml_core.channels import CHANNELS
from sdoml_dagster.archive.tree import archive_path
from sdoml_demo.files import default_cache
from sdoml_demo.server import Archive

MINUTE = datetime(2014, 2, 3, 12, 14, tzinfo=UTC)
AIA_PATH = archive_path(CHANNELS["AIA_0193"], MINUTE)
HMI_PATH = archive_path(CHANNELS["HMI_M"], MINUTE + timedelta(minutes=1))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("archive")


@pytest.fixture
def archive(cache):
    with Archive(cache=cache, absences=False) as running:
        yield running


def test_server_serves_both_trees(archive):
    aia = requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=30)
    assert aia.status_code == 200
    assert aia.content.startswith(b"SIMPLE  =")
    assert int(aia.headers["Content-Length"]) == len(aia.content)
    hmi = requests.get(f"{archive.hmi_root}/{HMI_PATH}", timeout=30)
    assert hmi.headers["Content-Type"] == "image/jpeg"
    assert hmi.content.startswith(b"\xff\xd8")


def test_head_returns_the_length_without_a_body(archive):
    with requests.Session() as session:
        head = session.head(f"{archive.aia_root}/{AIA_PATH}", timeout=30)
        whole = session.get(f"{archive.aia_root}/{AIA_PATH}", timeout=30)
    assert head.content == b""
    assert int(head.headers["Content-Length"]) == len(whole.content)
    assert archive.log.connections == 1


@pytest.mark.parametrize(
    "path",
    [
        "",
        "2014/02/03/H1200/AIA20140203_1215_0193.fits",  # odd minute
        "2014/02/03/H1200/AIA20140203_1214_4500.fits",  # unknown channel
        "2014/02/03/H1300/AIA20140203_1214_0193.fits",  # wrong folder for the hour
        "2014/02/04/H1200/AIA20140203_1214_0193.fits",
        "2014/02/30/H1200/AIA20140230_1214_0193.fits",
        "2009/02/03/H1200/AIA20090203_1214_0193.fits",
        "2999/02/03/H1200/AIA29990203_1214_0193.fits",
        "2014/02/03/20140203_121500_M_1k.jpg",  # a path in the other tree
        "../../../../etc/passwd",
    ],
)
def test_unknown_paths_return_404(archive, path):
    answer = requests.get(f"{archive.aia_root}/{path}", timeout=30)
    assert answer.status_code == 404
    assert answer.text.startswith("<!DOCTYPE HTML")


def test_missing_frames_return_404_and_their_neighbors_are_served(cache):
    gap = datetime(2024, 1, 1, 2, tzinfo=UTC)  # see test_frame_states_depend_only_on_the_file_name
    paths = [
        archive_path(CHANNELS["AIA_1700"], gap + timedelta(minutes=minutes)) for minutes in (0, 2)
    ]
    for absences, expected in ((True, [404, 200]), (False, [200, 200])):
        with Archive(cache=cache, absences=absences) as archive:
            answers = [requests.get(f"{archive.aia_root}/{path}", timeout=30) for path in paths]
        assert [answer.status_code for answer in answers] == expected


def test_hmi_has_a_cadence_of_15_minutes(archive):
    path = HMI_PATH.replace("121500", "121400")
    assert requests.get(f"{archive.hmi_root}/{path}", timeout=30).status_code == 404


def test_frames_newer_than_the_lag_return_404(cache):
    minute = datetime.now(UTC).replace(hour=12, minute=0) - timedelta(days=5)
    path = archive_path(CHANNELS["AIA_0171"], minute)
    with Archive(cache=cache, absences=False, lag_days=7) as late:
        assert requests.get(f"{late.aia_root}/{path}", timeout=30).status_code == 404
    with Archive(cache=cache, absences=False) as prompt:
        assert requests.get(f"{prompt.aia_root}/{path}", timeout=30).status_code == 200


def test_connection_is_kept_alive(archive):
    with requests.Session() as session:
        for path in (AIA_PATH, "nothing", AIA_PATH):
            session.get(f"{archive.aia_root}/{path}", timeout=30, headers={"User-Agent": "me"})
    assert archive.log.connections == 1
    assert [request.status for request in archive.log.requests] == [200, 404, 200]
    assert {request.connection for request in archive.log.requests} == {1}
    assert archive.log.requests[0].agent == "me"
    assert archive.log.requests[0].path.endswith(AIA_PATH)


def test_server_handles_concurrent_clients(cache):
    def fetch(_):
        return requests.get(f"{slow.aia_root}/{AIA_PATH}", timeout=30).content

    with Archive(cache=cache, absences=False, latency=0.3) as slow:
        with ThreadPoolExecutor(6) as pool:
            bodies = set(pool.map(fetch, range(6)))
        assert len(bodies) == 1
        assert slow.log.max_in_flight == 6
        assert slow.log.max_open_connections == 6


def test_cached_frames_are_not_rendered_again(cache, monkeypatch):
    with Archive(cache=cache, absences=False) as archive:
        first = requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=30).content
    monkeypatch.setattr("sdoml_demo.files.render_aia", None)
    with Archive(cache=cache, absences=False) as archive:
        assert requests.get(f"{archive.aia_root}/{AIA_PATH}", timeout=30).content == first


def start(folder: Path, *options: str) -> tuple[subprocess.Popen[str], dict[str, str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sdoml_demo", "--port", "0", "--cache", folder, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    roots = {}
    for _ in range(2):
        name, _, value = process.stdout.readline().removeprefix("export ").strip().partition("=")
        roots[name] = value
    return process, roots


def stop(process) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.slow
def test_two_processes_with_separate_caches_serve_the_same_bytes(tmp_path, cache):
    got = []
    for name in ("one", "two"):
        process, roots = start(tmp_path / name, "--complete")
        aia = requests.get(f"{roots['SDOML_AIA_ROOTS']}/{AIA_PATH}", timeout=60).content
        hmi = requests.get(f"{roots['SDOML_HMI_ROOTS']}/{HMI_PATH}", timeout=60).content
        stop(process)
        got.append((aia, hmi))
    assert got[0] == got[1]
    assert len(got[0][0]) > 500_000
    leftovers = [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert leftovers == []


def test_bad_options_print_a_one_line_error(tmp_path):
    def run(*options):
        return subprocess.run(
            [sys.executable, "-m", "sdoml_demo", "--cache", tmp_path, *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | {"COLUMNS": "80"},
        )

    bad = run("--faults", "plague=0.5")
    assert bad.returncode == 2
    assert "plague=0.5" in bad.stderr.splitlines()[-1]
    with Archive(cache=tmp_path) as archive:
        taken = run("--port", archive.url.rsplit(":", 1)[1])
    assert taken.returncode == 1
    assert taken.stderr.startswith("cannot listen on 127.0.0.1:")
    assert len(taken.stderr.splitlines()) == 1


def test_frames_are_cached_in_a_temporary_folder_without_a_usable_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    # No folder can be created below a file.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert default_cache().parent == tmp_path / "temporary"
    with Archive(cache=default_cache()) as archive:
        assert requests.get(f"{archive.hmi_root}/nothing.jpg", timeout=5).status_code == 404


def test_unusable_cache_folder_is_an_error_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Archive(cache=tmp_path / "file")
