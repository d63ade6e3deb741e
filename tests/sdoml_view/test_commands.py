"""The commands with only the ``view`` extra: without Dagster, torch or a compiler."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
import requests

from tests.support.viewer import CHANNELS, make_release

ABSENT = ("dagster", "torch", "numba", "pydantic", "pydantic_settings", "requests", "matplotlib")
LIGHT = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None
from sdoml_cli.main import main
main()
"""


def sdoml(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIGHT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def test_movie_is_written_without_dagster_and_torch(release: Path, tmp_path: Path) -> None:
    target = tmp_path / "sun.mp4"
    day = ("--start", "2022-11-02", "--end", "2022-11-02T03:00", "--fps", "24")
    done = sdoml("movie", str(release), str(target), *day, "--channels", "aia_0171,HMI_M")
    assert done.returncode == 0, done.stderr
    assert "12 frames" in done.stdout
    with av.open(str(target)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
        assert video.streams.video[0].average_rate == 24
    assert list(tmp_path.iterdir()) == [target]


def test_movie_errors_are_one_line(release: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((str(release), "sun.gif"), "must end in .mp4 or .webp"),
        ((str(tmp_path), "sun.mp4"), "no shards"),
        ((str(release), "sun.mp4", "--channels", "AIA_0094"), "the dataset has AIA_0171"),
        ((str(release), "sun.mp4", "--start", "2030-01-01"), "no samples in this range"),
    ):
        done = sdoml("movie", *arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_static_page_needs_no_other_files_and_escapes_names(tmp_path: Path) -> None:
    hostile = make_release(tmp_path / '<img src=x onerror="alert(1)">')
    page = tmp_path / "index.html"
    done = sdoml("view", str(hostile), "--write-page", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text()
    assert "<img src=x" not in text
    assert "<script" not in text
    sources = re.findall(r'(?:src|href)="([^"]{12})', text)
    assert len(sources) == 1 + 4  # a calendar year and four samples
    assert all(source.startswith("data:image/") for source in sources)
    assert "2022: 258 of 288 frames" in text
    assert text.count("<polyline") == len(CHANNELS)


def test_view_prints_its_address_and_serves(release: Path) -> None:
    command = [sys.executable, "-c", LIGHT, "view", str(release), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"Viewer at (http://127\.0\.0\.1:\d+/)", line)
            assert found, line
            assert "my sun: 72 samples" in process.stdout.readline()
            assert requests.get(f"{found[1]}api/dataset", timeout=60).json()["samples"] == 72
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) in {0, 130, -signal.SIGINT}


def test_help_works_and_build_reports_the_missing_extra() -> None:
    shown = sdoml("--help").stdout
    assert "view" in shown
    assert "movie" in shown
    done = sdoml("build", "--plan")
    assert done.returncode == 1
    assert "pip install 'sdoml-lite[pipeline]'" in done.stderr


@pytest.mark.parametrize("source", ["{folder}", "http://127.0.0.1:9/release"])
def test_view_prints_one_error_line_if_the_dataset_cannot_be_opened(
    source: str, tmp_path: Path
) -> None:
    done = sdoml("view", source.format(folder=tmp_path), "--no-browser", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
