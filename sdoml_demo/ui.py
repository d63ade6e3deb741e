# ruff: noqa: T201 (a command-line program prints its output)
"""``make ui``: Dagster's web UI, its daemon and the simulated archive.

All services listen only on loopback and write to one folder. Ctrl-C stops all services.
"""

import argparse
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from sdoml_core.errors import SettingError
from sdoml_dagster.instance.home import prepare_instance
from sdoml_dagster.settings.model import Settings
from sdoml_demo.files import default_cache
from sdoml_demo.server import Archive

MODULE = "sdoml_dagster.definitions"
START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. The exit status is 1 if a service ends unexpectedly."""
    parser = argparse.ArgumentParser(prog="python -m sdoml_demo.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=3000, help="port of the UI (%(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=Path(".demo/ui"), help="folder for all output (%(default)s)"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        help="folder for rendered frames (%(default)s)",
    )
    parser.add_argument(
        "--days",
        type=int,
        default=60,
        help="number of days in the dataset, up to yesterday (%(default)s)",
    )
    options = parser.parse_args(arguments)
    if _taken(options.port):
        parser.exit(1, f"port {options.port} is in use: choose another port with --port\n")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with Archive(cache=options.cache) as archive:
        environment = {
            # As elsewhere, the user's settings take precedence.
            **_defaults(options.folder.resolve(), archive, days=options.days),
            **{k: v for k, v in os.environ.items() if not k.endswith("_ROOTS")},
        }
        environment["DAGSTER_HOME"] = str(prepare_instance(options.folder.resolve() / "dagster"))
        os.environ.update(environment)
        try:
            Settings.load()
        except SettingError as error:
            parser.exit(1, f"{error}\n")
        _show(environment)
        return _serve(environment, options.port, stop)


def _defaults(folder: Path, archive: Archive, *, days: int) -> dict[str, str]:
    """Return settings that allow a week to be built in a minute or two."""
    return {
        "SDOML_STORE": str(folder / "store"),
        "SDOML_START": str(date.today() - timedelta(days=days)),  # noqa: DTZ011 only a default
        "SDOML_CADENCE_MINUTES": "120",
        "SDOML_RESOLUTION": "256",
        "SDOML_PUBLICATION_LAG_DAYS": "1",
        # Allow more time, because the archive renders frames on request.
        "SDOML_READ_TIMEOUT": "120",
        "SDOML_AIA_ROOTS": archive.aia_root,
        "SDOML_HMI_ROOTS": archive.hmi_root,
    }


def _show(environment: dict[str, str]) -> None:
    print("Settings for the command line while the UI runs:")
    for name in sorted(environment):
        if name.startswith("SDOML_") or name == "DAGSTER_HOME":
            print(f"  export {name}={shlex.quote(environment[name])}")
    print("\nStarting the UI ...", flush=True)


def _serve(environment: dict[str, str], port: int, stop: threading.Event) -> int:
    """Run both services until one of them ends or ``stop`` is set."""
    commands = {
        "webserver": ["dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-m", MODULE],
        "daemon": ["dagster._daemon", "run", "-m", MODULE],
    }
    home = Path(environment["DAGSTER_HOME"])
    services: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, (module, *options) in commands.items():
            with (home / f"{name}.log").open("wb") as log:
                services[name] = subprocess.Popen(  # noqa: S603 the lines above
                    [sys.executable, "-W", "ignore", "-m", module, *options],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    # Ctrl-C must reach the services only through this process.
                    start_new_session=True,
                )
        if _wait(port, services, stop):
            print(
                f"\n  http://127.0.0.1:{port}\n\n"
                "Lineage → Materialize all → choose a week → Launch. Then open a day of `shards`\n"
                "under Partitions. Its contact_sheet shows the Sun. Ctrl-C stops the UI.",
                flush=True,
            )
        while not stop.wait(0.5) and all(s.poll() is None for s in services.values()):
            pass
        ended = [name for name, service in services.items() if service.poll() is not None]
        for name in ended:
            print(f"the {name} ended unexpectedly: see {home / name}.log", file=sys.stderr)
        return 1 if ended and not stop.is_set() else 0
    finally:
        _end(list(services.values()))


def _wait(port: int, services: dict[str, subprocess.Popen[bytes]], stop: threading.Event) -> bool:
    """Wait until the UI and the daemon are ready. Returns False if a service ended first."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and not stop.wait(0.3):
        if any(service.poll() is not None for service in services.values()):
            return False
        if daemon_is_up(port):
            return True
    return False


def daemon_is_up(port: int) -> bool:
    """Return whether the UI responds and detects a daemon, which backfills need."""
    query = "{ instance { daemonHealth { allDaemonStatuses { daemonType healthy } } } }"
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    # Do not use a proxy for loopback.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=10) as response:
            health = json.load(response)["data"]["instance"]["daemonHealth"]
    except OSError:
        return False
    healthy = {s["daemonType"] for s in health["allDaemonStatuses"] if s["healthy"]}
    return {"BACKFILL", "QUEUED_RUN_COORDINATOR", "SCHEDULER"} <= healthy


def _end(services: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt all services, and kill those that do not stop. Runs end with the webserver."""
    for service in services:
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT
    for service in services:
        try:
            service.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            os.killpg(service.pid, signal.SIGKILL)
            service.wait()


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
