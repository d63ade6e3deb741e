"""The requests that the server rejects, and the permissions of the page.

The viewer shows local data in a browser that also opens other sites. Another site must not be able
to read the data, and names in a dataset must not become code.
"""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = "127.0.0.1"
HOSTS: Final = (LOOPBACK, "localhost")
"""Valid names in the ``Host`` header. The name of another site that resolves to loopback is
rejected."""

READ_METHODS: Final = ("GET", "HEAD")
PARSER: Final = "/api/series"
"""The only path that accepts a request body. The body is a table, which is parsed but not
stored."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that checks host, origin and method, and adds the headers of `HEADERS`."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        refusal = _refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)


def _refusal(scope: Scope) -> PlainTextResponse | None:
    headers = Headers(scope=scope)
    name, _, port = headers.get("host", "").partition(":")
    if name not in HOSTS or (port and not port.isdigit()):
        return PlainTextResponse("unknown host; open the viewer at 127.0.0.1\n", 421)
    # A link in a chat or a notebook is allowed to open the page, which contains no data yet.
    opens_page = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and not opens_page:
        return PlainTextResponse("requests from other sites are refused\n", 403)
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{headers['host']}":
        return PlainTextResponse("requests from other sites are refused\n", 403)
    method, path = scope["method"], scope["path"]
    if method not in READ_METHODS and not (method == "POST" and path == PARSER):
        return PlainTextResponse("the viewer is read-only\n", 405, {"Allow": "GET, HEAD"})
    return None
