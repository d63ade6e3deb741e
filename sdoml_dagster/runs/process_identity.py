"""Identify a process by more than its ID, to check later whether it is still running.

Process IDs are reused after a process ends and after the machine restarts, and each container has
its own IDs. This module works only on Linux, because other systems have no ``/proc``.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_INITIAL_NAMESPACE = "pid:[4026531836]"
"""Namespace of processes outside containers. Linux uses this fixed number."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, and the machine and the container in which it runs."""

    pid: int
    started: str
    """Start time in clock ticks since the machine booted."""

    boot: str
    """Random ID of the machine's current boot."""

    namespace: str
    """Namespace of process IDs, which differs between containers."""

    machine: str
    """Name and ID of the machine, which stay the same after a reboot."""

    def __str__(self) -> str:
        return " ".join(
            [str(self.pid), self.started, self.boot, self.namespace, self.machine or "-"]
        )

    @classmethod
    def parse(cls, text: str) -> "ProcessIdentity | None":
        """Parse the text form. Return None for other text."""
        parts = text.split(" ")
        if len(parts) != 5 or not parts[0].isdigit():
            return None
        return cls(int(parts[0]), *parts[1:])


def this_process() -> ProcessIdentity | None:
    """Return the identity of this process, or None on a system without ``/proc``."""
    return _identity(os.getpid())


def has_ended(process: ProcessIdentity) -> bool:
    """Return whether a process is known to have ended.

    Return False for processes on other machines or in other containers, because their state is
    unknown.
    """
    here = this_process()
    if here is None or process.machine != here.machine:
        return False
    if process.boot != here.boot:
        # This machine was restarted. A container can have the same name and ID on another host.
        return process.namespace == here.namespace == _INITIAL_NAMESPACE
    if process.namespace != here.namespace:
        return False
    found = _start_time(process.pid)
    return not _exists(process.pid) if found is None else found != process.started


def _identity(pid: int) -> ProcessIdentity | None:
    started = _start_time(pid)
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        namespace = str((PROC / str(pid) / "ns/pid").readlink())
    except OSError:
        return None
    return ProcessIdentity(pid, started, boot, namespace, _machine()) if started else None


def _start_time(pid: int) -> str | None:
    """Return the start time of a process, "" if it is a zombie, or None if it is not visible."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The second field is the name in parentheses, which may contain spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> bool:
    """Return whether a process exists, even if ``/proc`` hides other users' processes."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _machine() -> str:
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return f"{socket.gethostname()}/{machine}"
