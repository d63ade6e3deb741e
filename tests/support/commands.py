"""Run Python modules and console scripts as commands in processes that have imported Dagster.

A new interpreter spends two seconds of CPU time on imports, which is most of the cost of a short
command. The command server therefore forks a process for each command. The process has its own
environment, folder, arguments and files. Without ``PYTHONWARNINGS``, it shows no warnings.
"""

import atexit
import functools
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support import command_client
from tests.support.command_client import Command

_ROOT = Path(__file__).parents[2]
_SERVER = "tests.support.command_server"
_SCRIPTS = Path(sys.executable).parent


def run_module(
    module: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    host: tuple[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a module, or the console script at a path; return its status and output.

    See `Command` for ``host``.
    """
    command = [str(argument) for argument in arguments]
    with (
        Path(os.devnull).open() as nothing,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        running = Command(
            _server(),
            module,
            command,
            environment=dict(os.environ if env is None else env),
            folder=str(cwd or Path.cwd()),
            files=[file.fileno() for file in (nothing, out, err)],
            host=host,
        )
        try:
            status = running.wait(timeout)
        except TimeoutError:
            os.kill(running.pid, signal.SIGKILL)
            running.wait()
            raise
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess([module, *command], status, out.read(), err.read())


def start_module(
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
    host: tuple[str, str] | None = None,
) -> Command:
    """Start a module, or the console script at a path, in its own session.

    Its output goes to a file. See `Command` for ``host``.
    """
    with Path(os.devnull).open() as nothing, log.open("ab") as output:
        return Command(
            _server(),
            module,
            arguments,
            environment=dict(env),
            folder=str(cwd or Path.cwd()),
            files=(nothing.fileno(), output.fileno(), output.fileno()),
            own_session=True,
            host=host,
        )


def install_scripts(folder: Path, *names: str) -> None:
    """Create programs that run the given console scripts through the command server."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        program = folder / name
        client = (sys.executable, "-I", "-S", command_client.__file__, _server())
        command = shlex.join(map(str, (*client, _SCRIPTS / name)))
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)


@functools.cache
def _server() -> str:
    """Start this process's command server on the first call; return its address."""
    folder = tempfile.mkdtemp(prefix="sdoml-commands-")
    address = f"{folder}/socket"
    # Without DAGSTER_HOME, a simulated crash of an instance does not kill the server.
    environment = {name: text for name, text in os.environ.items() if name != "DAGSTER_HOME"}
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", _SERVER, address],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT, env=environment,
    )  # fmt: skip

    def stop() -> None:
        server.kill()
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return address
