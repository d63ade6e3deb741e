"""The behavior of `make` and the tests on a machine that lacks some requirements."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import REQUIREMENTS, missing_packages

ROOT = Path(__file__).parents[2]


def create_venv(folder: Path, *python: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "tools/create_venv.sh"), str(folder / "venv"), *python]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_old_python_is_rejected(tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = create_venv(tmp_path, str(old))
    assert done.returncode == 1
    assert f"No Python 3.11 or newer was found: {old}" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_virtual_environment_uses_the_given_python(tmp_path: Path) -> None:
    done = create_venv(tmp_path, sys.executable)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv/bin/pip").exists()
    assert "Creating" in done.stdout


def test_missing_programs_map_to_debian_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    libraries: list[str] = []
    monkeypatch.setattr(
        "tests.support.requirements.find_library",
        lambda name: name if name in libraries else None,
    )
    assert set(missing_packages(REQUIREMENTS.values())) == {
        "chromium", "hostname", "iproute2", "libatomic1", "util-linux",
    }  # fmt: skip
    libraries.append("atomic")
    for program in ("google-chrome", "hostname", "ip", "setpriv", "unshare"):
        (tmp_path / program).touch(mode=0o755)
    assert missing_packages(REQUIREMENTS.values()) == []


@pytest.mark.parametrize("may_skip", [True, False])
def test_tests_with_unmet_requirements_skip_or_fail(may_skip: bool, tmp_path: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "TESTS_MAY_NOT_SKIP" and not name.startswith(("PYTEST_", "COV_"))
    } | {"PATH": str(tmp_path)}
    if not may_skip:
        environment["TESTS_MAY_NOT_SKIP"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/e2e"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == (0 if may_skip else 1)
    assert "needs chromium: no Chromium or Chrome is installed" in done.stdout
    if may_skip:
        table = done.stdout.split(" not tested ")[1]
        assert f"to run them: {REQUIREMENTS['chromium'].remedy}" in table
        assert " failed" not in done.stdout
