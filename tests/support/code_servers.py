"""Start Dagster code servers on the loopback interface."""

import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from sdoml_demo.ui import MODULE
from tests.support.command_client import Command
from tests.support.commands import start_module

MODULE_OPTIONS = ("--module-name", MODULE)


def start_code_server(
    environment: Mapping[str, str], log: Path, options: Sequence[str] = MODULE_OPTIONS
) -> tuple[Command, int]:
    """Start a code server that starts runs fast; return its process and its port."""
    port = free_port()
    address = ("-h", "127.0.0.1", "-p", str(port))
    command = ("api", "grpc", *address, *options)
    return start_module("tests.support.code_server", *command, env=environment, log=log), port


def accepts_connections(port: int) -> bool:
    """Return whether a server is listening on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def free_port() -> int:
    """Return a port that no server uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
