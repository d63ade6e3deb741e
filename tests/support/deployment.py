"""A local deployment: webserver and daemon as processes, controlled through GraphQL."""

import contextlib
import json
import os
import signal
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sdoml_dagster.instance.home import prepare_instance
from sdoml_demo.faults import Fault, FaultPlan
from sdoml_demo.ui import MODULE, daemon_is_up
from tests.support.code_servers import (
    MODULE_OPTIONS,
    accepts_connections,
    free_port,
    start_code_server,
)
from tests.support.command_client import Command
from tests.support.commands import start_module

ROOT = Path(__file__).parents[2]
LAUNCH_BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on PartitionKeysNotFoundError { message partitionKeys }
  }
}"""
RUN = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
OUTCOME = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
STATUS = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill {
      status
      runs { id status tags { key value } stepStats { stepKey status attempts { startTime } } }
      assetBackfillData { assetBackfillStatuses {
        ... on AssetPartitionsStatusCounts {
          assetKey { path } numPartitionsTargeted numPartitionsMaterialized numPartitionsFailed }
        ... on UnpartitionedAssetStatus { assetKey { path } materialized failed }
      } }
      error { message }
    }
  }
}"""


DEFAULT = {MODULE: MODULE_OPTIONS}


@dataclass(frozen=True)
class Days(FaultPlan):
    """Faults that affect whole days. Days are given as in paths, for example 2024/03/05."""

    empty: frozenset[str] = frozenset()
    half: frozenset[str] = frozenset()
    outage: frozenset[str] = frozenset()

    def choose(self, path: str, attempt: int) -> Fault | None:
        day = next((d for d in self.empty | self.half | self.outage if f"/{d}/" in path), None)
        if day in self.outage:
            return Fault.SERVER_ERROR
        afternoon = int(path.rsplit("/", 1)[1].split("_")[1][:2]) >= 12
        return Fault.NOT_FOUND if day in self.empty or (day and afternoon) else None


class Deployment:
    """A context manager that runs a webserver, a daemon and code servers for one instance.

    Parameters
    ----------
    environment
        Settings, and ``DAGSTER_HOME``.
    source
        Options that tell the services which code to load. By default, the services share code
        servers that start runs fast. Otherwise, each service starts its own code server, as
        ``make ui`` does.
    locations
        Code locations by name, each with the options of its code server.
    storage
        YAML to append to ``dagster.yaml``, such as another database.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        source: Sequence[str] = (),
        *,
        locations: Mapping[str, Sequence[str]] = DEFAULT,
        storage: str = "",
    ) -> None:
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
        self._storage = storage
        self._source = source
        self._locations = locations
        self.home = Path(environment["DAGSTER_HOME"])
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.services: dict[str, Command] = {}

    def __enter__(self) -> Self:
        prepare_instance(self.home)
        with (self.home / "dagster.yaml").open("a") as configuration:
            configuration.write(self._storage)
        source = self._source or self._start_code_servers()
        web = ("-h", "127.0.0.1", "-p", str(self.port))
        self._start("webserver", "dagster_webserver", *web, *source)
        self._start("daemon", "tests.support.quick_daemon", "run", *source)
        self._await("webserver or daemon", lambda: daemon_is_up(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        for service in self.services.values():
            with contextlib.suppress(ProcessLookupError):  # the service has already ended
                os.killpg(service.pid, signal.SIGINT)
        for service in self.services.values():
            try:
                service.wait(20)
            except TimeoutError:
                os.killpg(service.pid, signal.SIGKILL)
                service.wait()

    def crash(self) -> int:
        """Kill all processes of the instance together: services, code servers and runs."""
        mark = f"DAGSTER_HOME={self.home}".encode()
        sessions = {service.pid for service in self.services.values()}
        killed = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                started = mark in (folder / "environ").read_bytes().split(b"\0")
                if started or os.getsid(int(folder.name)) in sessions:
                    os.kill(int(folder.name), signal.SIGKILL)
                    killed += 1
        for service in self.services.values():
            service.wait()
        self.services = {}
        return killed

    def graphql(self, query: str, **variables: Any) -> Any:
        """Run a GraphQL query and return the data in the response."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"{self.url}/graphql", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def launch(self, assets: Sequence[str], days: Sequence[str]) -> str:
        """Start a backfill as the UI does and return its ID."""
        params = {
            "assetSelection": [{"path": name.split("/")} for name in assets],
            "partitionNames": list(days),
        }
        answer = self.graphql(LAUNCH_BACKFILL, params=params)["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        return str(answer["backfillId"])

    def limit_pool(self, pool: str, limit: int) -> None:
        """Set the limit of a pool, as the Concurrency page does."""
        query = (
            "mutation($pool: String!, $limit: Int!) "
            "{ setConcurrencyLimit(concurrencyKey: $pool, limit: $limit) }"
        )
        assert self.graphql(query, pool=pool, limit=limit)["setConcurrencyLimit"]

    def job(self, name: str, timeout: float = 240) -> str:
        """Run a job without partitions as the launchpad does and return its final status."""
        selector = {
            "repositoryName": "__repository__",
            "repositoryLocationName": MODULE,
            "jobName": name,
        }
        answer = self.graphql(RUN, params={"selector": selector, "mode": "default"})["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        deadline = time.monotonic() + timeout
        while True:
            status = self.graphql(OUTCOME, id=answer["run"]["runId"])["runOrError"]["status"]
            if status in {"SUCCESS", "FAILURE", "CANCELED"}:
                return str(status)
            assert time.monotonic() < deadline, status
            time.sleep(0.5)

    def latest_backfill(self) -> str:
        """Return the ID of the latest backfill."""
        query = (
            "{ partitionBackfillsOrError(limit: 1)"
            " { ... on PartitionBackfills { results { id } } } }"
        )
        return str(self.graphql(query)["partitionBackfillsOrError"]["results"][0]["id"])

    def wait(self, backfill: str, timeout: float = 360) -> Any:
        """Wait for a backfill to end and return its outcome."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.graphql(STATUS, id=backfill)["partitionBackfillOrError"]
            if found["status"] not in {"REQUESTED", "CANCELING", "FAILING"}:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.5)

    def _start_code_servers(self) -> Sequence[str]:
        """Start the code servers, wait for them, and return the options that select them."""
        ports = {}
        for name, options in self._locations.items():
            log = self.home / f"{name}.log"
            server, ports[name] = start_code_server(self.environment, log, options)
            self.services[f"code server {name}"] = server
        # A backfill fails if the daemon continues it before there is a code server.
        self._await("a code server", lambda: all(map(accepts_connections, ports.values())))
        servers = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": name}}
            for name, port in ports.items()
        ]
        workspace = self.home / "workspace.yaml"
        workspace.write_text(json.dumps({"load_from": servers}))
        return ("-w", str(workspace))

    def _await(self, name: str, started: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not started():
            if time.monotonic() > deadline:
                self.__exit__()
                raise TimeoutError(f"{name} did not start; see {self.home}")
            time.sleep(0.2)

    def _start(self, name: str, module: str, *arguments: str) -> None:
        log = self.home / f"{name}.log"
        self.services[name] = start_module(module, *arguments, env=self.environment, log=log)
