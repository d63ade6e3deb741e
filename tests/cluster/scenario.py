"""The cluster scenario: a backfill during which one worker dies and another loses its link."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.deployment import (
    SINGLE,
    Deployment,
    differences,
    files_of,
    until,
)
from tests.cluster.lan import Host, Lan

DAYS = [f"2024-03-0{day}" for day in range(1, 6)]
INGEST = ("raw_aia", "raw_hmi", "processed_aia", "processed_hmi")
POOL, CONNECTIONS = 2, 2
SETTINGS = {
    "SDOML_START": DAYS[0],
    "SDOML_END": "2024-03-06",
    "SDOML_CADENCE_MINUTES": "720",
    "SDOML_CHANNELS": "AIA_0171,AIA_1700,HMI_M",
    "SDOML_RESOLUTION": "64",
    "SDOML_MAX_CONNECTIONS": str(CONNECTIONS),
    "SDOML_THREADS": "2",
    "SDOML_RETRY_DELAY": "5",
    "SDOML_READ_TIMEOUT": "15",
    "SDOML_CONNECT_TIMEOUT": "5",
}
CUT_SECONDS = 30
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


@dataclass(frozen=True)
class Evidence:
    """Observations from one run of the scenario."""

    days_by_worker: Counter[str]
    """Successful runs of the backfill."""

    killed_worker: str

    messages: list[str]
    """Event log of the run whose worker was killed."""

    cut_run_ended: str
    """Status of the run that was active when the link was cut."""

    rerun_on: str
    """Worker that then built the killed worker's day."""

    runs_after_heal: int
    """Number of the disconnected worker's successful runs that ended after it was reconnected."""

    max_in_flight: int
    """Maximum number of requests that the archive handled at the same time."""

    max_connections: int
    """Maximum number of open connections at the archive before the link was cut."""

    different: list[str]
    """Files of the store that differ from those built on a single machine."""

    files: int


def play(lan: Lan, *, cache: Path, report: Callable[[str], None]) -> Evidence:
    """Run the scenario."""
    began = time.monotonic()

    def say(text: str) -> None:
        report(f"{time.monotonic() - began:6.1f} s  {text}")

    cluster = Deployment(lan, SETTINGS, workers=3, cache=cache, pool=POOL)
    single = lan.host("single", SINGLE)
    single.environment = cluster.settings | {
        "SDOML_STORE": str(single.folder / "store"),
        "DAGSTER_HOME": str(single.folder),
    }
    cluster.await_archive()
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_alone, single)
        cluster.start()
        say("started six hosts: services, archive, a single machine, and three workers")
        alone = building.result()
    say(f"a single machine built the same {len(DAYS)} days: {len(alone)} files")

    # Because of the latency, runs mostly fetch. Two workers are therefore fetching when they fail.
    cluster.set_latency(5)
    number = cluster.backfill(INGEST, DAYS)
    say(f"backfill {number} of {len(DAYS)} days launched through GraphQL")
    first, second = until(lambda: full_pool(cluster), "the pool to fill", seconds=240)
    # Count connections now, because the archive keeps those of a disconnected worker open.
    connections = int(cluster.counts()["max_open_connections"])
    first.crash()
    second.unplug()
    started = by_worker(cluster, "STARTED")
    killed, cut = started[first.name], started[second.name]
    say(f"{first.name} killed with SIGKILL during run {killed[:8]}")
    say(f"{second.name} disconnected during run {cut[:8]}")
    time.sleep(CUT_SECONDS)
    second.plug()
    healed = time.time()
    say(f"{second.name} reconnected")

    def over() -> str | None:
        status = cluster.backfill_status(number)
        return status if status.startswith("COMPLETED") or status == "FAILED" else None

    until(lambda: has_successes(cluster, number), "all days to succeed", seconds=360)
    say("every day has a successful run")
    in_flight = int(cluster.counts()["max_in_flight"])
    runs = [run for run in cluster.runs() if run["tags"].get("dagster/backfill") == number]
    days = {run["runId"]: day_of(run) for run in runs}
    done = [run for run in runs if run["status"] == "SUCCESS"]
    for run in reversed(runs):
        tags = run["tags"]
        say(f"  {days[run['runId']]}  {run['status']:8} {tags.get('sdoml/worker', '-')}")
    rerun = next(run for run in done if days[run["runId"]] == days[killed])

    cluster.set_latency(0)
    fit = cluster.launch("fit_normalization")
    await_runs(cluster, [fit])
    say("constants fitted from the sketches of all days")
    await_runs(cluster, [cluster.launch("build_shards", day) for day in DAYS])
    say("shards packed")
    status = until(over, "the backfill to end", seconds=240)
    say(f"backfill {status}")
    together = files_of(cluster.copy_store())
    return Evidence(
        days_by_worker=Counter(run["tags"]["sdoml/worker"] for run in done),
        killed_worker=first.name,
        messages=cluster.messages(killed),
        cut_run_ended=next(run["status"] for run in runs if run["runId"] == cut),
        rerun_on=rerun["tags"]["sdoml/worker"],
        runs_after_heal=sum(
            run["tags"]["sdoml/worker"] == second.name and run["endTime"] > healed
            for run in cluster.runs()
            if run["status"] == "SUCCESS"
        ),
        max_in_flight=in_flight,
        max_connections=connections,
        different=differences(alone, together),
        files=len(together),
    )


def build_alone(single: Host) -> dict[str, bytes]:
    """Build all days on one machine with a local folder and return the store's files."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    command = ["asset", "materialize", "-m", "sdoml_dagster.definitions", "--select"]
    days = ["--partition-range", f"{DAYS[0]}...{DAYS[-1]}"]
    assets = ",".join((*INGEST, "normalization_stats", "shards"))
    single.run_script(dagster, *command, assets, *days, SDOML_DAYS_PER_RUN="0", timeout=360)
    return files_of(single.folder / "store")


def full_pool(cluster: Deployment) -> list[Host] | None:
    """Return the workers that are using all their connections, once they fill the pool."""
    in_flight = cluster.counts()["in_flight"]
    busy = [worker for worker in cluster.workers if in_flight.get(worker.address) == CONNECTIONS]
    return busy if len(busy) == POOL else None


def by_worker(cluster: Deployment, status: str) -> dict[str, str]:
    """Return the ID of the run with a given status on each worker."""
    return {
        run["tags"]["sdoml/worker"]: run["runId"]
        for run in cluster.runs(statuses=[status])
        if "sdoml/worker" in run["tags"]
    }


def has_successes(cluster: Deployment, number: str) -> bool:
    """Return whether every day of a backfill has a successful run."""
    done = cluster.runs(statuses=["SUCCESS"], tags=[{"key": "dagster/backfill", "value": number}])
    return {day_of(run) for run in done} == set(DAYS)


def day_of(run: dict[str, Any]) -> str:
    """Return the day of a backfill run. Each run covers a range of one day."""
    return str(run["tags"]["dagster/asset_partition_range_start"])


def await_runs(cluster: Deployment, wanted: list[str]) -> None:
    """Wait until all the runs have succeeded; raise `RuntimeError` if one fails."""

    def ended() -> dict[str, str] | None:
        runs = {run["runId"]: run["status"] for run in cluster.runs(runIds=wanted)}
        return runs if set(runs.values()) <= FINISHED else None

    runs = until(ended, "the runs to end", seconds=360)
    for run, status in runs.items():
        if status != "SUCCESS":
            raise RuntimeError(f"run {run} ended as {status}: {cluster.messages(run)[-5:]}")
