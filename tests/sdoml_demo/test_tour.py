"""`make demo`, run as a user would: the output says what was built and how to load it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sdoml_demo.tour import main

pytestmark = pytest.mark.slow


@pytest.fixture
def tour(environment, frame_cache, tmp_path, monkeypatch):
    """Run the tour in its own folder, with the frames cached by the tests."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "sdoml-demo-archive").symlink_to(frame_cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no proxy listens at this address

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sdoml_demo.tour", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_files_named_by_the_tour_exist_and_its_snippet_runs(tour, tmp_path):
    done = tour()
    assert done.returncode == 0, done.stderr
    said = done.stdout
    store = tmp_path / ".demo/store"
    assert f"export SDOML_STORE={shlex.quote(str(store))}\n" in said
    commands = re.findall(r"^\$ dagster asset materialize .* --partition (\S+)$", said, re.M)
    assert commands == ["2024-03-08", "2024-03-09"]

    shards = re.findall(r"^  (/.*\.tar)  \d+ MiB$", said, re.MULTILINE)
    assert shards == [str(path) for path in sorted(store.glob("shards/2024/*.tar"))]
    assert len(shards) == 2
    coverage = dict(re.findall(r"^  (\w+) +(\d+ .*)$", said, re.MULTILINE))
    columns = re.findall(r"^  channel +(.*)$", said, re.MULTILINE)[0].split()
    (hmi,) = [dict(zip(columns, coverage["HMI_M"].split(), strict=True))]
    assert (hmi["ok"], hmi["missing"]) == ("7", "1")
    assert "     1 × missing: not in the archive\n" in said
    (stand_ins,) = [coverage["AIA_1700"].split()[columns.index("stand-ins")]]
    assert stand_ins == "3"

    picture = re.findall(r"^  (/.*\.png)$", said, re.MULTILINE)
    with Image.open(*picture) as image:
        assert image.format == "PNG"
        assert image.width > 1000
    (card,) = re.findall(r"^  (/.*/README\.md) describes the release\.$", said, re.MULTILINE)
    assert "AIA_0171, AIA_1700, HMI_M" in Path(card).read_text()

    snippet = re.findall(r"^    (.*)$", said.partition("\nNext\n")[2], re.MULTILINE)
    program = "\n".join([*snippet, "print(tuple(image.shape), time, len(dataset))"])
    loaded = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert loaded == "(3, 64, 64) 2024-03-08T06:00:00 7\n"


def test_tour_stops_at_the_first_failed_command(tour, tmp_path, monkeypatch):
    monkeypatch.setenv("SDOML_RESOLUTION", "7")
    done = tour("--folder", "elsewhere", "--days", "2")
    assert done.returncode == 1
    assert "SDOML_RESOLUTION=7: 7 is not one of " in done.stderr
    assert done.stdout.count("$ dagster asset materialize") == 1
    assert "Shards" not in done.stdout
    assert (tmp_path / "elsewhere/dagster/dagster.yaml").exists()


def test_zero_days_are_rejected(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--days", "0"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("--days must be 1 or more")
