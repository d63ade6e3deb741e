"""What some tests need beyond Python packages, and how to get it.

A test names its needs with ``pytest.mark.needs("chromium")``. ``tests/conftest.py`` skips it if one
is missing and lists at the end of the run what was not tested; with ``TESTS_MAY_NOT_SKIP=1`` such a
test fails instead. Python packages are no such needs: the extra ``dev`` brings all of them.
"""

import functools
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that may be missing on a machine."""

    missing: Callable[[], str | None]
    """Why it is not available, or ``None``."""

    remedy: str
    """How to get it."""


def _program(name: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(name) else f"the program {name} is not installed"


def _linux() -> str | None:
    return None if sys.platform == "linux" else f"this is {sys.platform}"


def _root() -> str | None:
    return _linux() or (None if os.geteuid() == 0 else "the tests do not run as root")


@functools.cache
def _namespaces() -> str | None:
    obstacle = _root()
    for name in ("ip", "setpriv", "unshare", "hostname"):
        obstacle = obstacle or _program(name)()
    if obstacle:
        return obstacle
    probe = f"sdoml-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(
        ["ip", "netns", "add", probe], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return made.stderr.strip()
    subprocess.run(["ip", "netns", "delete", probe], check=True)
    return None


@functools.cache
def _mounts() -> str | None:
    obstacle = _root() or _program("unshare")()
    if obstacle:
        return obstacle
    tried = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() or "mounting a tmpfs failed" if tried.returncode else None


REQUIREMENTS = {
    "chromium": Requirement(_program("chromium"), "apt-get install chromium fonts-dejavu-core"),
    "linux": Requirement(_linux, "run the tests on Linux"),
    "mounts": Requirement(_mounts, "run the tests as root, with the right to mount"),
    "network namespaces": Requirement(
        _namespaces, "run the tests as root; apt-get install iproute2 util-linux hostname"
    ),
}


def obstacle(name: str) -> str | None:
    """Why a requirement is not met, or ``None``."""
    return REQUIREMENTS[name].missing()
