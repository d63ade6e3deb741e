"""Dagster's code server, which starts runs as forks of a process that has imported the code.

Such a run takes a third of the CPU time of a run in a new interpreter. The code server has threads,
so runs cannot be forks of the server itself.
"""

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from pathlib import Path

from dagster._cli import main

from sdoml_demo.ui import MODULE


def fork_instead(_: object, arguments: Sequence[str], files: Sequence[int]) -> int:
    """Fork the parent process of the runs from this process instead of starting an interpreter."""
    if child := os.fork():
        return child
    try:
        for path in list(Path("/proc/self/fd").iterdir()):
            if int(path.name) not in (0, 1, 2, *files):
                with suppress(OSError):  # the listed folder is closed by now
                    os.close(int(path.name))
        exec(arguments[-1], {})
    finally:
        os._exit(0)


def serve() -> None:
    """Start the parent process of the runs, then the code server."""
    if MODULE in sys.argv:
        importlib.import_module(MODULE)
    resource_tracker.ensure_running()
    spawn, util.spawnv_passfds = util.spawnv_passfds, fork_instead
    forkserver.ensure_running()
    util.spawnv_passfds = spawn
    forks = multiprocessing.get_context("forkserver")
    multiprocessing.get_context = lambda method=None: forks  # instead of "spawn"
    main()


if __name__ == "__main__":
    serve()
