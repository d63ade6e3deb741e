"""Serve the application on the loopback interface."""

import socket
import threading
import webbrowser
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from sdoml_core.errors import SettingError
from sdoml_view.security import LOOPBACK

DEFAULT_PORT: Final = 8420


def listen(port: int | None) -> socket.socket:
    """Open the listening socket on loopback.

    Parameters
    ----------
    port
        Port. 0 selects a free port. None selects `DEFAULT_PORT`, or a free port if it is in use.

    Raises
    ------
    SettingError
        If the port is in use.
    """
    candidates = (DEFAULT_PORT, 0) if port is None else (port,)
    for candidate in candidates:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, candidate))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if candidate == candidates[-1]:
                raise SettingError(
                    f"cannot listen on {LOOPBACK}:{candidate}: {error.strerror}; "
                    "use --port 0 to select a free port"
                ) from error
            continue
        return listener
    raise AssertionError


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Return a server that can run on a socket from `listen`."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=2,
        )
    )


def serve(
    app: ASGIApp, listener: socket.socket, *, opened: Callable[[], object], open_browser: bool
) -> None:
    """Serve until interrupted, or until the dataset fails to open.

    Parameters
    ----------
    app, listener
        The application, and a socket from `listen`.
    opened
        Function that waits until the dataset is open. If it raises an error, the server stops.
    open_browser
        Whether to open the address in the browser.
    """
    server = make_server(app)

    def watch() -> None:
        try:
            opened()
        except BaseException:  # noqa: BLE001 the caller reports it
            server.should_exit = True

    _in_background(watch)
    if open_browser:
        _in_background(lambda: webbrowser.open(url_of(listener)))
    server.run(sockets=[listener])


def url_of(listener: socket.socket) -> str:
    """Return the address of a listening socket."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}/"


def _in_background(action: Callable[[], object]) -> None:
    # The socket is already listening, so the first request of the browser waits for the server.
    threading.Thread(target=action, daemon=True).start()
