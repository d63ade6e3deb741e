"""Prove that the README's two commands work on a bare machine; run it before each release.

``python3 tools/bare_machine/prove.py`` installs a minimal Debian with only Python and make in a
folder, copies the project into it, and runs ``make demo`` and ``make test`` there: as root and as
an ordinary user, in a path with spaces, with a read-only home, and offline behind a dead proxy once
everything is installed. As root, make installs python3-venv; an ordinary user gets a message that
names the missing package. The script must run as root on Debian or Ubuntu, and needs mmdebstrap and
about 20 GB of disk space. Pass names of scenarios to run only these.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from root_file_system import USER, BareMachine, Mount, bootstrap

ROOT = Path(__file__).parents[2]
ABSENT = ("cc", "gcc", "git", "chromium", "postgres", "redis-server", "valkey-server")
"""Programs whose presence would hide a missing setup step."""

PIP_CACHE = "/var/cache/pip"
"""Cache that the scenarios share, so that each package is downloaded once."""

PYTHON = "/opt/python"
"""Path at which a scenario sees the Python installation from ``--python``."""

DEAD_PROXY = {
    name: "http://127.0.0.1:9"
    for base in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    for name in (base, base.lower())
}
"""An address where nothing listens, so every request through the proxy fails."""


@dataclass(frozen=True)
class Scenario:
    """One way in which a new user runs a command."""

    target: str
    user: str
    suite: str = "bookworm"
    project: str = "/srv/sdoml-lite"
    read_only_home: bool = False
    again_offline: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


DURATIONS = {"PYTEST_ADDOPTS": "--durations=60"}
SPACES = f"/home/{USER}/my projects/SDOML lite"
SCENARIOS = {
    "demo-root": Scenario("demo", "root"),
    "demo-user": Scenario("demo", USER, project=SPACES, again_offline=True),
    "demo-read-only-home": Scenario(
        "demo", USER, project="/srv/SDOML lite", read_only_home=True, again_offline=True
    ),
    "demo-trixie": Scenario("demo", USER, suite="trixie", project=SPACES, again_offline=True),
    "test-root": Scenario("test", "root", variables=DURATIONS | {"TESTS_MAY_NOT_SKIP": "1"}),
    "test-user": Scenario("test", USER, project=SPACES, variables=DURATIONS),
}


def main() -> int:
    """Run the scenarios; the exit status is 1 if one of them fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"default: {' '.join(SCENARIOS)}")
    parser.add_argument(
        "--folder", type=Path, default=Path("/var/tmp/sdoml-bare"),
        help="folder for the file systems, logs and pip's cache (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--share", type=Path, action="append", default=[], metavar="FOLDER",
        help="folder of this machine to show to the scenarios, such as a local package index",
    )  # fmt: skip
    parser.add_argument(
        "--python", type=Path, metavar="PREFIX",
        help="installation of another Python to use instead of Debian's, such as a pyenv version",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the file systems")
    options = parser.parse_args()
    unknown = set(options.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.exit("run this script as root, because it enters another root file system")
    failed = []
    for name in options.scenarios or SCENARIOS:
        started = time.monotonic()
        problem = play(name, options)
        outcome = f"FAILED: {problem}" if problem else "passed"
        print(f"{name:<22} {time.monotonic() - started:5.0f} s  {outcome}", flush=True)
        failed += [name] if problem else []
    return 1 if failed else 0


def play(name: str, options: argparse.Namespace) -> str | None:
    """Run one scenario and return what failed, or ``None``."""
    scenario = SCENARIOS[name]
    machine = install(name, options.folder)
    for program in ABSENT:
        if machine.run("sh", "-c", f"command -v {program}") == 0:
            return f"{program} is present, so this scenario would prove nothing"
    mounts = visible(machine, scenario, options)
    machine.run("chown", f"{scenario.user}:", PIP_CACHE, mounts=mounts)
    command = ["make", scenario.target]
    variables = {"PIP_CACHE_DIR": PIP_CACHE, **scenario.variables}
    if options.python is not None:
        command.append(f"PYTHON={PYTHON}/bin/python3")
        # The installation may have been built for another prefix.
        variables["LD_LIBRARY_PATH"] = f"{PYTHON}/lib"
    path = options.folder / f"{name}.log"
    with path.open("wb") as log:
        run = partial(machine.run, *command, user=scenario.user, mounts=mounts, log=log)
        if scenario.user != "root" and options.python is None:
            if run(variables=variables) == 0:
                return f"{command} succeeded without Debian's python3-venv; see {path}"
            if b"apt-get install python3" not in path.read_bytes():
                return f"{command} does not say that python3-venv is missing; see {path}"
            machine.add("python3-venv")
        if status := run(variables=variables):
            return f"{command} failed with status {status}; see {path}"
        if scenario.again_offline and (
            status := run(variables=variables | DEAD_PROXY, offline=True)
        ):
            return f"the second run, offline, failed with status {status}; see {path}"
    if not options.keep:
        shutil.rmtree(machine.root)
    return None


def install(name: str, folder: Path) -> BareMachine:
    """Create the file system of a scenario, with the project in it."""
    scenario = SCENARIOS[name]
    folder.mkdir(parents=True, exist_ok=True)
    template = folder / scenario.suite
    if not template.exists():
        bootstrap(scenario.suite, template)
    root = folder / name
    if root.exists():
        shutil.rmtree(root)
    subprocess.run(["cp", "-a", str(template), str(root)], check=True)
    machine = BareMachine(root, scenario.project)
    machine.prepare(ROOT, owner=scenario.user)
    return machine


def visible(machine: BareMachine, scenario: Scenario, options: argparse.Namespace) -> list[Mount]:
    """Return the folders of this machine that the scenario can see."""
    cache = options.folder / f"pip-cache-{scenario.user}"
    cache.mkdir(exist_ok=True)
    mounts = [Mount(path, str(path)) for path in options.share]
    mounts.append(Mount(cache, PIP_CACHE, writable=True))
    if options.python is not None:
        mounts.append(Mount(options.python, PYTHON))
    if scenario.read_only_home:
        home = machine.home(scenario.user)
        mounts.append(Mount(machine.root / home.lstrip("/"), home))
    return mounts


if __name__ == "__main__":
    sys.exit(main())
