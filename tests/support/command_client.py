"""Ask the command server to run a command; as a program, with its own arguments and files.

It imports little, because it starts once per command of a shell script.
"""

import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def run(
    address: str,
    program: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str,
    files: Sequence[int],
) -> int:
    """Run a module or a console script and return its exit status.

    Parameters
    ----------
    address
        Socket of the server.
    program
        Name of a module, or path of a console script.
    arguments
        Arguments of the program.
    environment
        All its environment variables.
    folder
        Its current folder.
    files
        Its standard input, output and error.
    """
    request = {
        "program": program,
        "arguments": arguments,
        "environment": environment,
        "folder": folder,
    }
    text = json.dumps(request).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        sent = socket.send_fds(server, [text], list(files))
        server.sendall(text[sent:])
        return int(server.recv(16))


if __name__ == "__main__":
    _, _address, _program, *_arguments = sys.argv
    _status = run(
        _address,
        _program,
        _arguments,
        environment=dict(os.environ),
        folder=str(Path.cwd()),
        files=(0, 1, 2),
    )
    sys.exit(_status if _status >= 0 else 128 - _status)
