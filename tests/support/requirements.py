"""Requirements of some tests other than Python packages, and how to install them.

A test states its requirements, for example with ``pytest.mark.needs("chromium")``. If one is not
met, ``tests/conftest.py`` skips the test and reports this at the end of the test run. With
``TESTS_MAY_NOT_SKIP=1``, the test fails instead. Python packages are not listed here, because the
``dev`` extra installs all of them.

``make test`` runs ``python -m tests.support.requirements``, which installs missing Debian packages.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Mapping
from ctypes.util import find_library
from dataclasses import dataclass, field

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement that some machines do not meet."""

    missing: Callable[[], str | None]
    """Returns why the requirement is not met, or ``None``."""

    remedy: str
    """How to install what is missing."""

    packages: Mapping[str, str] = field(default_factory=dict)
    """Debian packages, keyed by the program or library (``lib…``) that each package provides."""


def browser() -> str | None:
    """Return the path of Chromium or Chrome."""
    return next(filter(None, map(shutil.which, _BROWSERS)), None)


def obstacle(name: str) -> str | None:
    """Return why a requirement is not met, or ``None``."""
    return REQUIREMENTS[name].missing()


def missing_packages(requirements: Iterable[Requirement]) -> list[str]:
    """Return the Debian packages whose programs and libraries are not installed."""
    return [
        package
        for requirement in requirements
        for name, package in requirement.packages.items()
        if not _find(name)
    ]


def _find(name: str) -> str | None:
    if name in _BROWSERS:
        return browser()
    if name.startswith("lib"):
        return find_library(name.removeprefix("lib"))
    return shutil.which(name)


def install() -> None:
    """Install the missing Debian packages if apt-get is available and the user is root."""
    packages = missing_packages(REQUIREMENTS.values())
    if not packages or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    print("installing with apt-get, for the tests:", *packages, flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    options = ["-qq", "-o", "Dpkg::Use-Pty=0"]
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run(
            ["apt-get", *options, *arguments], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            print(f"apt-get {arguments[0]} failed: {reason}", flush=True)


def _programs(*names: str) -> str | None:
    missing = [name for name in names if shutil.which(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


@functools.cache
def _browser() -> str | None:
    if not browser():
        return "no Chromium or Chrome is installed"
    return _failure([sys.executable, "-m", "playwright", "--version"])


def _linux() -> str | None:
    return None if sys.platform == "linux" else f"this is {sys.platform}"


def _root() -> str | None:
    return _linux() or (None if os.geteuid() == 0 else "the tests do not run as root")


@functools.cache
def _namespaces() -> str | None:
    unmet = _root() or _programs(*_NAMESPACES)
    if unmet:
        return unmet
    probe = f"sdoml-{uuid.uuid4().hex[:8]}"
    failure = _failure(["ip", "netns", "add", probe])
    if failure is None:
        subprocess.run(["ip", "netns", "delete", probe], check=True)
    return failure


@functools.cache
def _mounts() -> str | None:
    return (
        _root()
        or _programs("unshare")
        or _failure(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    )


@functools.cache
def _index() -> str | None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--retries=0", "--timeout=9"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*pip, "download", "-q", "--no-cache-dir", "--no-deps", "-d", folder, "iniconfig"]
        return "pip cannot reach a package index" if _failure(command) else None


def _failure(command: list[str]) -> str | None:
    """Run a command; return its error message if it fails, or ``None``."""
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    return tried.stderr.strip() or f"{command[0]} failed" if tried.returncode else None


_NAMESPACES = {"ip": "iproute2", "setpriv": "util-linux", "unshare": "util-linux",
               "hostname": "hostname"}  # fmt: skip
REQUIREMENTS = {
    "chromium": Requirement(
        _browser,
        "install Chromium or Chrome; on Debian, `make test` does this if you are root",
        # Playwright's Node.js needs libatomic.
        {"chromium": "chromium", "libatomic": "libatomic1"},
    ),
    "linux": Requirement(_linux, "run the tests on Linux"),
    "mounts": Requirement(_mounts, "run the tests as root, with permission to mount"),
    "network namespaces": Requirement(
        _namespaces, "run the tests as root on Linux; on Debian, `make test` installs the programs",
        _NAMESPACES,
    ),
    "package index": Requirement(_index, "run the tests with a network connection"),
}  # fmt: skip


if __name__ == "__main__":
    install()
