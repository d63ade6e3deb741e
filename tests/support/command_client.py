"""Client of the command server. As a program, it runs a command with its own arguments and files.

The program imports little, because shell scripts start it once per command.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Command:
    """A command that the server has started. Like `subprocess.Popen`, it has `pid` and `wait`.

    Parameters
    ----------
    address
        Socket of the server.
    program
        Name of a module, or the path to a console script.
    arguments
        Arguments of the program.
    environment
        The complete environment of the command.
    folder
        Current folder of the command.
    files
        File descriptors of standard input, output and error.
    own_session
        Whether to start a new session, so that `os.killpg` reaches all processes of the command.
    host
        Network namespace and host name of a simulated machine to run on. The command then ends
        with the server.
    """

    def __init__(
        self,
        address: str,
        program: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: str,
        files: Sequence[int],
        own_session: bool = False,
        host: tuple[str, str] | None = None,
    ) -> None:
        request = {
            "program": program,
            "arguments": arguments,
            "environment": environment,
            "folder": folder,
            "own_session": own_session,
            "host": host,
        }
        text = json.dumps(request).encode() + b"\n"
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(address)
        sent = socket.send_fds(self._server, [text], list(files))
        self._server.sendall(text[sent:])
        self._answer = self._server.makefile()
        self.pid = int(self._answer.readline())
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end and return its exit status; raise `TimeoutError` if late."""
        if self.returncode is None:
            if not select.select([self._server], [], [], timeout)[0]:
                raise TimeoutError(f"process {self.pid} has not ended after {timeout} s")
            # The server sends nothing if it was killed, for example with the command.
            self.returncode = int(self._answer.readline() or -signal.SIGKILL)
            self._answer.close()
            self._server.close()
        return self.returncode


if __name__ == "__main__":
    _, _address, _program, *_arguments = sys.argv
    _status = Command(
        _address,
        _program,
        _arguments,
        environment=dict(os.environ),
        folder=str(Path.cwd()),
        files=(0, 1, 2),
    ).wait()
    sys.exit(_status if _status >= 0 else 128 - _status)
