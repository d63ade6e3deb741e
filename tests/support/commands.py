"""Run Python modules as commands, in processes that do not import Dagster again.

A new interpreter spends two seconds of CPU on imports, which is most of what a short command costs.
`run_module` therefore asks a server to fork: it has imported the libraries, but nothing that reads
settings. The forked process gets its own environment, folder, arguments and output, runs the module
as ``python -m`` does, and ends. Without ``PYTHONWARNINGS`` it shows no warnings.
"""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SERVER = """
import gc, json, os, runpy, sys, warnings
import alembic.command, dagster, dagster._cli, numba, pandas, pyarrow.parquet, requests, sqlalchemy
import sdoml_dagster.pipeline.fetch, sdoml_dagster.pipeline.pack, sdoml_dagster.pipeline.process
import sdoml_dagster.cli.main, sdoml_dagster.release.build

def run(module, arguments, environment, folder, out, err):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for name, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        opened = os.open(name, os.O_RDWR)
        os.dup2(opened, descriptor)
    for option in environment.get("PYTHONWARNINGS", "ignore").split(","):
        warnings._setoption(option)
    sys.argv = ["", *arguments]
    sys.path.insert(0, "")
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0

gc.freeze()
for line in sys.stdin:
    child = os.fork()
    if not child:
        status = run(**json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def run_module(
    module: str,
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a module as a command and return what it wrote, as `subprocess.run` does."""
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "out"), Path(folder, "err")
        for path in paths:
            path.touch()
        request: dict[str, Any] = {
            "module": module,
            "arguments": command,
            "environment": dict(os.environ if env is None else env),
            "folder": str(cwd or Path.cwd()),
            "out": str(paths[0]),
            "err": str(paths[1]),
        }
        server = _server()
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        out, err = (path.read_text() for path in paths)
    return subprocess.CompletedProcess([module, *command], status, out, err)


@functools.cache
def _server() -> "subprocess.Popen[str]":
    """Start the server of this process, once."""
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _SERVER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip

    def stop() -> None:
        server.kill()
        server.communicate()

    atexit.register(stop)
    return server
