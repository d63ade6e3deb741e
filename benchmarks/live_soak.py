"""Two weeks of near-real-time data with Dagster: the database, files and memory must not grow.

Dagster's scheduler evaluates the schedule every 15 minutes and executes its runs in this process.
The clock is simulated: libfaketime (Debian package ``faketime``) sets the time of Python and
SQLite. The simulated archive runs in a separate process.

    python -m benchmarks.live_soak --days 14
"""

import argparse
import logging
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from benchmarks.live import constants_for, nothing_before_start, settings_for, workspace
from sdoml_dagster.instance.home import prepare_instance
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.store.store import Store
from sdoml_demo.files import default_cache
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
START = datetime(2026, 3, 30, 20, tzinfo=UTC)
TICK = timedelta(minutes=15)
"""Time between two checks of the scheduler, which evaluates the latest missed tick."""

CADENCE = 240
HOUR = timedelta(hours=1)
CHANNELS = "AIA_0171,HMI_M"
IN_PROCESS = """
run_launcher:
  module: dagster._core.launcher.sync_in_memory_run_launcher
  class: SyncInMemoryRunLauncher
run_coordinator:
  module: dagster._core.run_coordinator.default_run_coordinator
  class: DefaultRunCoordinator
"""


class SimulatedTime:
    """Sets the time of all processes that libfaketime was loaded into."""

    def __init__(self) -> None:
        self._path = Path(os.environ["FAKETIME_TIMESTAMP_FILE"])
        self.now = START

    def set(self, now: datetime) -> None:
        """Set the time, which then stays fixed until the next call."""
        temporary = self._path.with_suffix(".new")
        temporary.write_text(f"{now:%Y-%m-%d %H:%M:%S}\n")
        temporary.rename(self._path)
        self.now = now


def restart_with_simulated_time() -> None:
    """Restart this program with libfaketime loaded."""
    if not Path(LIBRARY).exists():
        sys.exit(f"{LIBRARY} is missing: apt-get install faketime")
    path = Path(tempfile.gettempdir(), f"sdoml-faketime-{os.getpid()}")
    path.write_text(f"{START:%Y-%m-%d %H:%M:%S}\n")
    environment = os.environ | {
        "LD_PRELOAD": LIBRARY,
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "TZ": "UTC",
    }
    os.execve(
        sys.executable, [sys.executable, "-m", "benchmarks.live_soak", *sys.argv[1:]], environment
    )


def serve(cache: Path, roots: multiprocessing.Queue) -> None:
    """Serve the archive from this child process, and send its roots to the parent."""
    from sdoml_demo.clock import Clock

    clock = Clock()
    clock.now = lambda: datetime.now(UTC)  # type: ignore[method-assign]
    silent = nothing_before_start()
    silent["AIA_0171"] = [*silent["AIA_0171"], (START + 96 * HOUR, START + 104 * HOUR)]
    down = [(START + 140 * HOUR, START + 164 * HOUR)]
    plan = LivePlan(absences=True, silent=silent, down=down)
    with Archive(cache=cache, clock=clock, live=plan) as archive:
        roots.put((archive.aia_root, archive.hmi_root))
        while True:
            time.sleep(60)
            archive.log.requests.clear()


def rows(home: Path, database: str, table: str) -> int:
    with sqlite3.connect(home / database) as connection:
        return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def size_of(folder: Path) -> tuple[int, int]:
    """Return the number of files below a folder, and their total size in bytes."""
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def follow(options: argparse.Namespace, folder: Path, clock: SimulatedTime) -> None:
    import dagster as dg
    from dagster._core.remote_origin import InProcessCodeLocationOrigin
    from dagster._core.test_utils import create_test_daemon_workspace_context
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
    from dagster._core.workspace.load_target import WorkspaceLoadTarget
    from dagster._scheduler.scheduler import launch_scheduled_runs

    class Here(WorkspaceLoadTarget):
        def create_origins(self):
            target = LoadableTargetOrigin(
                executable_path=sys.executable, module_name="sdoml_dagster.definitions"
            )
            return [InProcessCodeLocationOrigin(target, location_name="sdoml")]

    home = prepare_instance(folder / "home")
    with (home / "dagster.yaml").open("a") as file:
        file.write(IN_PROCESS)
    os.environ["DAGSTER_HOME"] = str(home)
    process = psutil.Process()
    logger = logging.getLogger("soak")
    logger.setLevel(logging.ERROR)
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        context = stack.enter_context(create_test_daemon_workspace_context(Here(), instance))
        location = next(iter(context.create_request_context().code_locations))
        repository = next(iter(location.get_repositories().values()))
        instance.start_schedule(repository.get_schedule("live_update_schedule"))
        times: dict = {}
        print(
            "day  RSS MiB  store files  store MiB  home files  home MiB  runs  events  ticks",
            flush=True,
        )
        for day in range(options.days):
            for _ in range(timedelta(days=1) // TICK):
                clock.set(clock.now + TICK)
                list(launch_scheduled_runs(context, logger, clock.now, times, max_catchup_runs=1))
            stored, held = size_of(folder / "store"), size_of(home)
            print(
                f"{day + 1:3}  {process.memory_info().rss / 2**20:7.0f}  {stored[0]:11}  "
                f"{stored[1] / 2**20:9.1f}  {held[0]:10}  {held[1] / 2**20:8.1f}  "
                f"{rows(home, 'history/runs.db', 'runs'):4}  "
                f"{rows(home, 'history/runs/index.db', 'event_logs'):6}  "
                f"{rows(home, 'schedules/schedules.db', 'job_ticks'):5}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="cache of rendered frames"
    )
    parser.add_argument("--days", type=int, default=14)
    options = parser.parse_args()
    if "FAKETIME_TIMESTAMP_FILE" not in os.environ:
        restart_with_simulated_time()
    # With libfaketime, time.sleep fails if the time is set during the call.
    time.sleep = lambda seconds: threading.Event().wait(seconds) and None
    clock = SimulatedTime()
    roots: multiprocessing.Queue = multiprocessing.Queue()
    archive = multiprocessing.Process(target=serve, args=(options.cache, roots), daemon=True)
    archive.start()
    aia, hmi = roots.get(timeout=120)
    try:
        with workspace() as folder:
            os.environ |= {
                "SDOML_STORE": str(folder / "store"),
                "SDOML_AIA_ROOTS": aia,
                "SDOML_HMI_ROOTS": hmi,
                "SDOML_CHANNELS": CHANNELS,
                "SDOML_CADENCE_MINUTES": str(CADENCE),
                "SDOML_RESOLUTION": "64",
            }
            overrides = {"channels": tuple(CHANNELS.split(",")), "cadence_minutes": CADENCE}
            place = argparse.Namespace(aia_root=aia, hmi_root=hmi)
            settings = settings_for(place, folder / "store", **overrides)
            freeze(Store(settings.store), constants_for(settings), replace=False)
            follow(options, folder, clock)
    finally:
        archive.kill()


if __name__ == "__main__":
    main()
