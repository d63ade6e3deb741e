"""Measure the overhead of Dagster: imports, one-day runs, and many partitions in the UI.

    python -m benchmarks.orchestration

Targets: load the definitions in 1 s, without importing torch, astropy, numba or numpy; log an
asset's first line 2 s after the start of the process; and answer queries for the partitions of all
assets over 6,000 days, and for the status of a backfill over these days, in 0.5 s. Dagster itself
takes most of the first two times. To show how much, the benchmark also measures an import of
Dagster alone and a run of an empty asset.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import psutil

from sdoml_dagster.instance.home import prepare_instance
from sdoml_demo.server import Archive
from sdoml_demo.ui import MODULE

DAYS = 6000
START = date(2010, 5, 13)
ASSETS = ("raw_aia", "raw_hmi", "processed_aia", "processed_hmi", "shards")
HEAVY = ("torch", "astropy", "numba", "matplotlib", "numpy", "pyarrow")
PARTITIONS = """
query($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  assetKey { path }
  partitionStats { numMaterialized numFailed numPartitions }
  assetPartitionStatuses { ... on TimePartitionStatuses { ranges { status startKey endKey } } }
  partitionDefinition { type }
} }"""
KEYS = "query($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) { partitionKeys } }"
BARE = """
import dagster as dg
@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
def raw_hmi() -> None: ...
defs = dg.Definitions([raw_hmi])
"""
STARTED = "Started execution of run"
LAUNCH = """
mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL = """
query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status numPartitions
  assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
    assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed } } }
} } }"""


def main() -> None:
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    print(f"load per core at the start: {load:.1f}")
    alone, ours = (
        median_time(lambda: import_seconds("dagster")),
        median_time(lambda: import_seconds(MODULE)),
    )
    print(f"definitions: {ours:.2f} s of CPU, of which dagster {alone:.2f} s", end="; ")
    print(f"heavy modules: {heavy_modules()}")
    with tempfile.TemporaryDirectory() as name, Archive(absences=False) as archive:
        folder = Path(name)
        environment = {
            **os.environ,
            "SDOML_STORE": str(folder / "store"),
            "SDOML_START": str(START),
            "SDOML_END": str(START + timedelta(days=DAYS)),
            "SDOML_RESOLUTION": "64",
            "SDOML_CADENCE_MINUTES": "720",
            "SDOML_CHANNELS": "HMI_M",
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "DAGSTER_HOME": str(prepare_instance(folder / "dagster")),
        }
        os.environ.update(environment)
        bare = folder / "bare.py"
        bare.write_text(BARE)
        for title, mark, source in (
            ("its run starts", STARTED, ("-m", MODULE)),
            ("it logs its first line", "raw_hmi 2024", ("-m", MODULE)),
            ("the run of an empty asset starts", STARTED, ("-f", str(bare))),
        ):
            runs = [first_line(environment, mark, source) for _ in range(5)]
            wall, cpu = (statistics.median(values) for values in zip(*runs, strict=True))
            print(f"one-day run, from the start of the process until {title}: ", end="")
            print(f"{wall:.2f} s, {cpu:.2f} s of CPU")
        materialize_many()
        with webserver(environment) as ask:
            keys = [{"path": [asset]} for asset in ASSETS]
            for title, query in (("partition keys", KEYS), ("partition statuses", PARTITIONS)):
                cold = seconds(lambda q=query: ask(q, keys=keys))
                warm = median_time(lambda q=query: seconds_of(ask, q, keys=keys))
                print(
                    f"{title} of {len(ASSETS)} assets × {DAYS} days: "
                    f"{warm:.3f} s (first {cold:.2f} s)"
                )
            days = [str(START + timedelta(days=number)) for number in range(DAYS)]
            params = {"assetSelection": keys, "partitionNames": days}
            taken = time.perf_counter()
            answer = ask(LAUNCH, params=params)["launchPartitionBackfill"]
            print(f"launch of a backfill over {DAYS} days: {time.perf_counter() - taken:.2f} s")
            number = answer["backfillId"]
            status = median_time(lambda: seconds_of(ask, BACKFILL, id=number))
            print(f"status of this backfill: {status:.3f} s")


def median_time(measure: Callable[[], float], times: int = 5) -> float:
    """Return the median time, which is not very sensitive to other load."""
    return statistics.median(measure() for _ in range(times))


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def seconds_of(ask: Callable[..., object], query: str, **variables: object) -> float:
    return seconds(lambda: ask(query, **variables))


def import_seconds(module: str) -> float:
    code = f"import time; t = time.process_time(); import {module};print(time.process_time() - t)"
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))


def heavy_modules() -> str:
    code = f"import sys, {MODULE}; print(*[m for m in {HEAVY} if m in sys.modules])"
    return subprocess.check_output([sys.executable, "-c", code], text=True).strip() or "none"


def first_line(
    environment: dict[str, str], mark: str, source: tuple[str, str]
) -> tuple[float, float]:
    """Return the wall and CPU seconds until the process logs a line that contains ``mark``."""
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize"]
    command += [*source, "--select", "raw_hmi", "--partition", "2024-03-08"]
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            if mark in line:
                taken = time.perf_counter() - started
                used = psutil.Process(process.pid).cpu_times()
                process.communicate()
                return taken, used.user + used.system
    raise RuntimeError(f"the run logged no line that contains {mark!r}")


def materialize_many() -> None:
    """Materialize 600 days of every asset, except one day of each month."""
    with dg.DagsterInstance.get() as instance:
        for asset in ASSETS:
            for number in range(600):
                if number % 30 != 13:
                    day = str(START + timedelta(days=number))
                    instance.report_runless_asset_event(
                        dg.AssetMaterialization(asset, partition=day)
                    )


@contextmanager
def webserver(environment: dict[str, str]) -> Iterator[Callable[..., dict[str, object]]]:
    """Run a webserver and yield a function that sends GraphQL queries to it."""
    port = 38471
    command = [sys.executable, "-W", "ignore", "-m", "dagster_webserver", "-m", MODULE]
    process = subprocess.Popen(
        [*command, "-p", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def ask(query: str, **variables: object) -> dict[str, object]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as response:
            answer = json.load(response)
        if "errors" in answer:
            raise RuntimeError(answer["errors"])
        return dict(answer["data"])

    try:
        for _ in range(200):
            try:
                ask("{ version }")
                break
            except OSError:
                time.sleep(0.3)
        yield ask
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
