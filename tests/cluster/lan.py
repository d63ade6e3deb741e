"""Simulate several hosts on one machine, as network namespaces connected to one switch.

The addresses exist only inside the namespaces. Leaving the :class:`Lan` kills all processes and
deletes the namespaces. Processes also die with the program that started them.
"""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.command_client import Command
from tests.support.commands import run_module, start_module
from tests.support.namespaces import enter_network

PREFIX = "sdoml-lan"


class Host:
    """A simulated machine: a network namespace with its own host name, address and link."""

    def __init__(self, lan: "Lan", name: str, address: str) -> None:
        self.name = name
        self.address = address
        self.folder = lan.folder / name
        self.folder.mkdir()
        self.folder.chmod(0o755)
        self.environment: dict[str, str] = {}
        self._namespace = f"{lan.prefix}-{name}"
        self._switch = lan.switch
        self._port = f"to-{name}"[:15]
        self._identity = (f"/run/netns/{self._namespace}", name)
        self._started: list[subprocess.Popen[bytes] | Command] = []
        _ip("netns", "add", self._namespace)
        _ip("-n", self._namespace, "link", "set", "lo", "up")
        _ip("-n", self._switch, "link", "add", self._port, "type", "veth", "peer", "name", "eth0",
            "netns", self._namespace)  # fmt: skip
        _ip("-n", self._namespace, "address", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", self._namespace, "link", "set", "eth0", "up")
        _ip("-n", self._switch, "link", "set", self._port, "master", "bridge", "up")

    def start(self, log: str, *command: str, user: str | None = None) -> subprocess.Popen[bytes]:
        """Start a program whose output goes to ``<log>.log`` in the host's folder."""
        with (self.folder / f"{log}.log").open("ab") as output:
            process = subprocess.Popen(
                self._wrapped(command, user),
                env=self._variables({}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def start_script(self, log: str, script: str, *arguments: str) -> None:
        """Start a console script or a module as a fork of a process that has imported Dagster."""
        process = start_module(
            script,
            *arguments,
            env=self._variables({}),
            log=self.folder / f"{log}.log",
            cwd=self.folder,
            host=self._identity,
        )
        self._started.append(process)

    def run_script(self, script: str, *arguments: str, timeout: float, **variables: str) -> None:
        """Run a console script in such a fork; raise `RuntimeError` if it fails."""
        done = run_module(
            script,
            *arguments,
            env=self._variables(variables),
            cwd=self.folder,
            timeout=timeout,
            host=self._identity,
        )
        self._check(done, (script, *arguments))

    def run(
        self,
        *command: str,
        timeout: float = 120,
        user: str | None = None,
        **variables: str,
    ) -> str:
        """Run a program and return its output; raise `RuntimeError` if it fails."""
        done = subprocess.run(
            self._wrapped(command, user),
            env=self._variables(variables),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        self._check(done, command)
        return done.stdout

    def _check(self, done: "subprocess.CompletedProcess[str]", command: Sequence[str]) -> None:
        if done.returncode:
            raise RuntimeError(
                f"{self.name}: {' '.join(command)[:300]} exited with {done.returncode}:\n"
                f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            )

    def connect(self, address: str, port: int, *, timeout: float) -> socket.socket:
        """Connect from this host without the cost of starting a process."""
        with ThreadPoolExecutor(1) as thread:  # a thread that enters a namespace stays in it
            return thread.submit(self._connect, address, port, timeout).result()

    def _connect(self, address: str, port: int, timeout: float) -> socket.socket:
        enter_network(self._identity[0])
        return socket.create_connection((address, port), timeout)

    def logs(self, lines: int = 60) -> str:
        """Return the last lines of each log."""
        return "\n".join(
            f"--- {self.name}/{log.name}\n"
            + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
            for log in sorted(self.folder.glob("*.log"))
        )

    def pids(self) -> list[int]:
        """Return the IDs of the processes on this host."""
        listed = subprocess.run(
            ["ip", "netns", "pids", self._namespace], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in listed.stdout.split()]

    def crash(self) -> None:
        """Kill every process on this host with SIGKILL."""
        deadline = time.monotonic() + 10
        for process in self._started:
            try:
                process.wait(0)
            except (subprocess.TimeoutExpired, TimeoutError):
                os.kill(process.pid, signal.SIGKILL)  # it may not have entered the namespace yet
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self._started:
                with contextlib.suppress(subprocess.TimeoutExpired, TimeoutError):
                    process.wait(0.2)
        for process in self._started:
            process.wait(max(1.0, deadline - time.monotonic()))

    def unplug(self) -> None:
        """Take the host's link down."""
        _ip("-n", self._switch, "link", "set", self._port, "down")

    def plug(self) -> None:
        """Bring the host's link up again."""
        _ip("-n", self._switch, "link", "set", self._port, "up")

    def remove(self) -> None:
        """Kill the processes and delete the namespace."""
        self.crash()
        subprocess.run(["ip", "netns", "delete", self._namespace], check=False)

    def _wrapped(self, command: Sequence[str], user: str | None) -> list[str]:
        identity = ["setpriv", "--pdeathsig", "KILL"]
        if user is not None:
            identity += ["--reuid", user, "--regid", "65534", "--clear-groups"]
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self._namespace, *named, *identity, *command]

    def _variables(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = ("PATH", "LANG", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONPATH")
        kept = {name: os.environ[name] for name in inherited if name in os.environ}
        return kept | {"HOME": str(self.folder)} | self.environment | dict(more)


class Lan:
    """A context manager for a switch and the hosts connected to it.

    Parameters
    ----------
    folder
        Receives one folder per host, for its logs and its disk.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"{PREFIX}-{os.getpid()}"
        self.switch = f"{self.prefix}-switch"
        self._hosts: list[Host] = []

    def __enter__(self) -> Self:
        _remove_leftovers()
        _ip("netns", "add", self.switch)
        _ip("-n", self.switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self.switch, "link", "set", "bridge", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self._hosts:
            host.remove()
        subprocess.run(["ip", "netns", "delete", self.switch], check=False)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Print the last lines of every log if an error occurs."""
        try:
            yield
        except Exception:
            print(*(host.logs() for host in self._hosts), sep="\n")
            raise

    def host(self, name: str, address: str) -> Host:
        """Add a host."""
        host = Host(self, name, address)
        self._hosts.append(host)
        return host


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _remove_leftovers() -> None:
    """Delete the namespaces of test runs that were killed; their processes died with them."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        name = line.split(" ")[0]
        owner = name.removeprefix(f"{PREFIX}-").split("-")[0]
        if name.startswith(PREFIX) and owner.isdigit() and not Path("/proc", owner).exists():
            subprocess.run(["ip", "netns", "delete", name], check=False)
