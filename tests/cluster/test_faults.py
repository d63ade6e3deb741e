"""Services that stop during a run and are then restarted."""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.deployment import (
    SERVICES,
    SINGLE,
    Deployment,
    differences,
    files_of,
    until,
)
from tests.cluster.lan import Host, Lan
from tests.cluster.scenario import FINISHED, INGEST

pytestmark = [pytest.mark.needs("network namespaces"), pytest.mark.timeout(800)]

POSTGRES_DAY, REDIS_DAY, QUEUED_DAY, S3_DAY = DAYS = [f"2024-03-0{day}" for day in range(1, 5)]
SETTINGS = {
    "SDOML_START": DAYS[0],
    "SDOML_END": "2024-03-05",
    "SDOML_CADENCE_MINUTES": "720",
    "SDOML_CHANNELS": "AIA_0171,HMI_M",
    "SDOML_RESOLUTION": "64",
    "SDOML_MAX_CONNECTIONS": "1",
    "SDOML_THREADS": "2",
    "SDOML_RUN_RETRIES": "1",
    "SDOML_RETRY_DELAY": "1",
}
DOWN_SECONDS = 10

_UPLOADS = """
import json, s3fs
pages = s3fs.S3FileSystem().call_s3("list_multipart_uploads", Bucket="sdoml")
print(json.dumps([upload["Key"] for upload in pages.get("Uploads", [])]))
"""


@dataclass
class Evidence:
    """Observations from one run of the scenario."""

    statuses: dict[str, list[str]] = field(default_factory=dict)
    """Statuses of each day's runs, oldest first."""

    without_s3: str = ""
    """Status of the run during which S3 was unavailable."""

    visible: dict[str, bytes] = field(default_factory=dict)
    """Files of the store after that run."""

    with_faulty_s3: str = ""
    """Status of the rerun."""

    answered: Counter[str] = field(default_factory=Counter)
    answered_in_rerun: Counter[str] = field(default_factory=Counter)
    alone: dict[str, bytes] = field(default_factory=dict)
    together: dict[str, bytes] = field(default_factory=dict)
    uploads: list[str] = field(default_factory=list)
    """Multipart uploads that were neither completed nor aborted."""


@pytest.fixture(scope="module")
def lan() -> Iterator[Lan]:
    with tempfile.TemporaryDirectory(prefix="sdoml-faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL runs as another user
        with Lan(folder) as running:
            yield running


@pytest.fixture(scope="module")
def seen(lan: Lan, frame_cache: Path) -> Evidence:
    with lan.explained():
        return play(lan, frame_cache)


def play(lan: Lan, frame_cache: Path) -> Evidence:
    """Stop and restart the services one at a time."""
    cluster = Deployment(lan, SETTINGS, workers=1, cache=frame_cache, pool=2, waiting=1, silence=15)
    single = lan.host("single", SINGLE)
    single.environment = cluster.settings | {
        "SDOML_STORE": str(single.folder / "store"),
        "DAGSTER_HOME": str(single.folder),
    }
    cluster.services.start(
        "s3-faults", sys.executable, f"{Path(__file__).parent}/s3_faults.py", SERVICES, "8334",
        f"{SERVICES}:8333",
    )  # fmt: skip
    cluster.workers[0].environment |= {
        "AWS_ENDPOINT_URL": f"http://{SERVICES}:8334",
        "AWS_MAX_ATTEMPTS": "3",
    }
    seen = Evidence()
    cluster.await_archive()
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(build_alone, single)
        cluster.start()
        seen.alone = alone.result()
    cluster.set_latency(1.5)
    restart_postgres(cluster)
    restart_redis(cluster)
    break_s3(cluster, seen)
    for run in reversed(cluster.runs()):
        day = run["tags"]["dagster/partition"]
        seen.statuses.setdefault(day, []).append(run["status"])
    seen.together = files_of(cluster.copy_store())
    seen.uploads = json.loads(cluster.services.run(sys.executable, "-c", _UPLOADS))
    return seen


def restart_postgres(cluster: Deployment) -> None:
    """Restart PostgreSQL during a run."""
    run = launch(cluster, POSTGRES_DAY)
    await_fetching(cluster)
    # SIGINT is PostgreSQL's "fast" shutdown, which containers use.
    stop(cluster.postgres, signal.SIGINT)
    log = cluster.workers[0].folder / "worker.log"
    until(lambda: "too many retries" in log.read_text(), "Dagster to give up", seconds=120)
    cluster.postgres = cluster.start_postgres()
    complete(cluster, POSTGRES_DAY, run)


def restart_redis(cluster: Deployment) -> None:
    """Restart Redis while one run is active and another waits in the queue."""
    cluster.set_latency(5)
    under_way = launch(cluster, REDIS_DAY)
    await_fetching(cluster)
    queued = launch(cluster, QUEUED_DAY)
    until(lambda: status(cluster, queued) == "STARTING", "a run to wait in Redis", seconds=60)
    assert status(cluster, under_way) == "STARTED"
    stop(cluster.redis, signal.SIGTERM)
    time.sleep(DOWN_SECONDS)
    cluster.redis = cluster.start_redis()
    complete(cluster, REDIS_DAY, under_way)
    complete(cluster, QUEUED_DAY, queued)


def break_s3(cluster: Deployment, seen: Evidence) -> None:
    """Let S3 fail until a run stops retrying, then for a few requests of the rerun."""
    cluster.set_latency(1.5)
    run = launch(cluster, S3_DAY)
    await_fetching(cluster)
    set_faults(cluster, 1_000_000)
    seen.without_s3 = await_end(cluster, run)
    set_faults(cluster, 0)
    seen.visible = files_of(cluster.copy_store())
    seen.answered = answered(cluster)
    cluster.set_latency(1.5)
    run = launch(cluster, S3_DAY)
    await_fetching(cluster)
    # A failed operation uses up three faults, so the step succeeds on its second attempt.
    set_faults(cluster, 4)
    seen.with_faulty_s3 = await_end(cluster, run)
    seen.answered_in_rerun = answered(cluster) - seen.answered


def set_faults(cluster: Deployment, number: int) -> None:
    """Set how many of the workers' next requests to S3 fail."""
    new = cluster.services.folder / "faults.new"
    new.write_text(str(number))
    new.replace(cluster.services.folder / "faults")


def answered(cluster: Deployment) -> Counter[str]:
    """Count the injected errors by status and method."""
    notes = (cluster.services.folder / "answered").read_text().splitlines()
    return Counter(" ".join(note.split(" ")[:2]) for note in notes)


def build_alone(single: Host) -> dict[str, bytes]:
    """Build the same days without services and return the store's files."""
    single.run_script(
        str(Path(sys.executable).with_name("dagster")), "asset", "materialize",
        "-m", "sdoml_dagster.definitions", "--select", ",".join(INGEST),
        "--partition-range", f"{DAYS[0]}...{DAYS[-1]}", timeout=120,
        SDOML_DAYS_PER_RUN="0",
    )  # fmt: skip
    return files_of(single.folder / "store")


def await_fetching(cluster: Deployment) -> None:
    """Wait until a run has sent requests to the archive."""
    until(lambda: cluster.counts()["max_in_flight"] > 0, "a run to start fetching", seconds=120)


def launch(cluster: Deployment, day: str) -> str:
    """Launch a day's run as a user would, and try again after an error."""

    def attempt() -> str | None:
        with suppress(RuntimeError):
            return cluster.launch("ingest", day)
        return None

    return until(attempt, f"a run of {day} to launch", seconds=60)


def stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    process.send_signal(number)
    process.wait(20)


def status(cluster: Deployment, run: str) -> str | None:
    """Return the status of a run, or ``None`` if the webserver reports an error."""
    with suppress(RuntimeError):
        return str(cluster.runs(runIds=[run])[0]["status"])
    return None


def await_end(cluster: Deployment, run: str) -> str:
    """Wait for a run to end and return its status."""
    return until(
        lambda: (now := status(cluster, run)) and now in FINISHED and now,
        f"run {run} to end",
        seconds=180,
    )


def complete(cluster: Deployment, day: str, run: str) -> None:
    """Wait until a day's run, or Dagster's retry of it, has succeeded."""
    if await_end(cluster, run) == "SUCCESS":
        return
    retried = until(
        lambda: cluster.runs(tags=[{"key": "dagster/root_run_id", "value": run}]),
        f"a retry of {day}",
        seconds=60,
    )
    assert await_end(cluster, retried[0]["runId"]) == "SUCCESS"


def test_store_matches_that_of_a_run_without_faults(seen: Evidence) -> None:
    assert differences(seen.alone, seen.together) == []
    assert {name.split("/")[3] for name in seen.together} == {day[-2:] for day in DAYS}


def test_no_multipart_upload_is_left_behind(seen: Evidence) -> None:
    assert seen.uploads == []


def test_day_survives_a_restart_of_postgresql(seen: Evidence) -> None:
    assert seen.statuses[POSTGRES_DAY][-1] == "SUCCESS"


def test_active_and_queued_runs_survive_a_restart_of_redis(seen: Evidence) -> None:
    assert seen.statuses[REDIS_DAY][-1] == "SUCCESS"
    assert seen.statuses[QUEUED_DAY][-1] == "SUCCESS"


def test_run_without_s3_fails_and_leaves_no_partial_file(seen: Evidence) -> None:
    assert {answer.split(" ")[0] for answer in seen.answered} == {"500", "503"}
    assert seen.without_s3 == "FAILURE"
    assert differences(seen.alone | seen.visible, seen.alone) == []
    assert len(seen.visible) < len(seen.alone)


def test_rerun_survives_s3_errors(seen: Evidence) -> None:
    assert seen.answered_in_rerun.total() == 4
    assert seen.with_faulty_s3 == "SUCCESS"
