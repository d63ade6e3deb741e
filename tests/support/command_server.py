"""Run commands in forks of a process that has imported Dagster. `commands` starts this program.

The server listens on a socket. It has imported the libraries and the code but read no settings. For
each client, a forked process takes over the client's environment, folder, arguments and files, and
runs the program that the client names.
"""

import contextlib
import gc
import importlib.metadata
import json
import os
import runpy
import select
import socket
import sys
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.namespaces import end_with_parent, enter_host
from tests.support.warm_imports import import_definitions, run_once


def serve(address: str) -> None:
    """Serve until standard input is closed, which happens when the test process ends."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        import_definitions()
        run_once()
        gc.freeze()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            client, _ = listener.accept()
            if not os.fork():
                listener.close()
                answer(client)
                os._exit(0)
            client.close()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def answer(client: socket.socket) -> None:
    """Run a client's command in another fork; send the command's process ID and exit status."""
    text, files, _, _ = socket.recv_fds(client, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += client.recv(1 << 16)
    request = json.loads(text)
    own_session = request.pop("own_session")
    host = request.pop("host")
    if host:
        end_with_parent()
    child = os.fork()
    if not child:
        client.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        if own_session:
            os.setsid()
        if host:
            end_with_parent()
            enter_host(*host)
        status = run(**request)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    for file in files:  # otherwise, pipes would stay open after the command has ended
        os.close(file)
    client.sendall(f"{child}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    client.sendall(str(status).encode())


def run(program: str, arguments: Sequence[str], environment: Mapping[str, str], folder: str) -> int:
    """Run a module, or the console script at a path, in this process."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for option in environment.get("PYTHONWARNINGS", "ignore").split(","):
        warnings._setoption(option)  # type: ignore[attr-defined]
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [program, *arguments]
    try:
        if os.sep in program:
            scripts = importlib.metadata.entry_points(group="console_scripts")
            return _status(scripts[Path(program).name].load()())
        sys.path.insert(0, "")
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return _status(end.code)
    except BaseException:  # noqa: BLE001 an interpreter also ends like this
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def _status(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.path.pop(0)  # the folder of the checkout
    os.chdir("/")  # a folder without sdoml.toml
    serve(sys.argv[1])
