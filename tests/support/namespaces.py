"""Linux system calls that move a process to a simulated host."""

import ctypes
import os
import signal
import socket
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET, _CLONE_NEWUTS = 0x40000000, 0x04000000


def enter_network(namespace: str | Path) -> None:
    """Move the current thread into a network namespace."""
    with Path(namespace).open() as file:
        _check(_LIBC.setns(file.fileno(), _CLONE_NEWNET), f"setns to {namespace}")


def enter_host(namespace: str, name: str) -> None:
    """Move this process into a network namespace, and give it a host name of its own."""
    enter_network(namespace)
    _check(_LIBC.unshare(_CLONE_NEWUTS), "unshare")
    socket.sethostname(name)


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _check(_LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "prctl")


def _check(status: int, call: str) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, f"{call} failed: {os.strerror(number)}")
