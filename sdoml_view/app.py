"""The web application: static files, and the data of a dataset as JSON and raw bytes."""

import asyncio
import base64
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from sdoml_core.channels import CHANNELS
from sdoml_core.colormaps import colormap
from sdoml_core.errors import DatasetError, SdomlError
from sdoml_core.frames.flags import VOCABULARY
from sdoml_core.loader.times import iso, parse_time
from sdoml_view.coverage import Calendar, read_calendar
from sdoml_view.curves import from_index, from_pixels
from sdoml_view.display import difference_levels, to_levels
from sdoml_view.fits_map import fits_map
from sdoml_view.movie import FORMATS, MovieOptions, label, movie_bytes
from sdoml_view.release import Release
from sdoml_view.security import Guard
from sdoml_view.series import UserSeries, parse_series

STATIC: Final = Path(__file__).parent / "static"
MAX_RANGE: Final = np.timedelta64(40 * 86400, "s")
"""Maximum time range of the slots in one response."""

MAX_TABLE: Final = 256 << 20
"""Maximum size of a user's table in bytes."""

POLL: Final = 0.5
"""Seconds between checks for a closed connection."""

MAX_CURVE: Final = np.timedelta64(366 * 86400 * 50, "s")
_MEDIA = {"mp4": "video/mp4", "webp": "image/webp"}


class Application:
    """Handlers of all routes, for one dataset.

    Parameters
    ----------
    opened
        Function that waits until the dataset is open and returns it. The page loads meanwhile.
    at
        Slot to show first.
    series
        Time series to draw below the light curves.
    """

    def __init__(
        self,
        opened: Callable[[], Release],
        *,
        at: np.datetime64 | None = None,
        series: Sequence[UserSeries] = (),
    ):
        self._opened = opened
        self._renewed: Release | None = None
        self._at = at
        self._series = list(series)
        self._calendar: Calendar | None = None

    @property
    def _release(self) -> Release:
        return self._renewed or self._opened()

    def asgi(self) -> Starlette:
        """Return the ASGI application."""
        reads: dict[str, Callable[[Request], Response]] = {
            "dataset": self.dataset,
            "slots": self.slots,
            "calendar": self.calendar,
            "refresh": self.refresh,
            "frames": self.frames,
            "pixel": self.pixel,
            "overlay": self.overlay,
            "curves": self.curves,
            "fits": self.fits,
        }
        routes = [
            Route("/", partial(_file, STATIC / "index.html")),
            *(Route(f"/api/{name}", _answer(handler)) for name, handler in reads.items()),
            Route("/api/movie", self.movie),
            Route("/api/series", self.series, methods=["GET", "POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        return Starlette(routes=routes, middleware=[Middleware(Guard)])

    def dataset(self, request: Request) -> Response:  # noqa: ARG002 the same for all requests
        """Describe the dataset and the slot to show first."""
        release = self._release
        row = release.first_view(self._at)
        slots = release.catalog.slots
        return JSONResponse(
            {
                "name": release.name,
                "source": release.source,
                "resolution": release.resolution,
                "cadence": release.cadence,
                "first": iso(slots[0]),
                "last": iso(slots[-1]),
                "samples": len(slots),
                "shards": len(release.catalog.shards),
                "constants": release.catalog.normalization_version,
                "start": iso(slots[row]),
                "flags": {flag.name: flag.meaning for flag in VOCABULARY},
                "channels": [
                    {
                        "name": name,
                        "label": label(name),
                        "instrument": CHANNELS[name].instrument,
                        "unit": "DN/s" if name.startswith("AIA") else "G",
                        "constant": release.catalog.constants.get(name, {}).get("constant"),
                        "colors": base64.b64encode(colormap(name).tobytes()).decode(),
                    }
                    for name in release.channels
                ],
            }
        )

    def refresh(self, request: Request) -> Response:  # noqa: ARG002 the same for all requests
        """Reopen the dataset if it has changed, as live datasets do, and report its last slot."""
        renewed = self._release.renewed()
        if renewed is not None:
            self._renewed, self._calendar = renewed, None
        slots = self._release.catalog.slots
        return JSONResponse(
            {"changed": renewed is not None, "last": iso(slots[-1]), "samples": len(slots)}
        )

    def slots(self, request: Request) -> Response:
        """List the slots in a range, with the metadata of each frame."""
        release = self._release
        rows = self._rows(request, MAX_RANGE)
        channels = {}
        for name in release.channels:
            present = [release.has(row, name) for row in rows]
            infos = [
                release.info(row, name) if there else None
                for row, there in zip(rows, present, strict=True)
            ]
            channels[name] = {
                "present": [int(there) for there in present],
                "observed": [
                    round(i.observed.timestamp(), 3) if i and i.observed else None for i in infos
                ],
                "exposure": [i and i.exposure for i in infos],
                "flags": [i.flags if i else 0 for i in infos],
                "stand_in": [int(bool(i and i.stand_in)) for i in infos],
            }
        slots = release.catalog.slots.astype("datetime64[s]")
        return JSONResponse(
            {
                "slots": slots[rows.start : rows.stop].astype(np.int64).tolist(),
                "channels": channels,
                "flags": [[flag.bit, flag.name] for flag in VOCABULARY],
                "before": _seconds(slots, rows.start - 1),
                "after": _seconds(slots, rows.stop),
            }
        )

    def calendar(self, request: Request) -> Response:  # noqa: ARG002 the same for all requests
        """Return the coverage by day and channel."""
        if self._calendar is None:
            self._calendar = read_calendar(self._release)
        return JSONResponse(self._calendar.to_json())

    def frames(self, request: Request) -> Response:
        """Return the display levels of the frames of a slot, one byte per pixel, frame after frame.

        ``X-Frames`` lists the channels in order. Channels without a frame are left out.
        """
        release = self._release
        row = self._row(request)
        channels = self._channels(request)
        size = self._size(request)
        before = _integer(request, "before", 0, 0, 10_000)
        pixels = release.frames(row, channels)
        other = None
        if before:
            slot = release.catalog.slots[row] - np.timedelta64(before * release.cadence, "s")
            try:
                other = release.frames(release.row(slot), channels)
            except DatasetError:
                other = {}
        parts = {}
        for name, image in pixels.items():
            table = release.level_table(name)
            if other is None:
                levels = to_levels(image, table)
            elif name in other:
                levels = difference_levels(image, other[name], table)
            else:
                continue
            if size < release.resolution:
                reduced = Image.fromarray(levels).reduce(release.resolution // size)
                parts[name] = reduced.tobytes()
            else:
                parts[name] = levels.tobytes()
        return Response(
            b"".join(parts.values()),
            media_type="application/octet-stream",
            headers={"X-Frames": ",".join(parts)},
        )

    def pixel(self, request: Request) -> Response:
        """Return the values of a pixel in the given channels, and its coordinates."""
        release = self._release
        row = self._row(request)
        limit = release.resolution - 1
        column, line = (_integer(request, name, 0, 0, limit) for name in ("x", "y"))
        channels = self._channels(request)
        values = {}
        place = None
        for name, image in release.frames(row, channels).items():
            physical = release.physical(name, image)
            value = None if physical is None else float(physical[line, column])
            values[name] = {
                "normalized": float(image[line, column]),
                "physical": None if value is None or np.isnan(value) else value,
            }
            if place is None:
                place = release.geometry(row, name).place(column, line)
        return JSONResponse(
            {
                "values": values,
                "place": None
                if place is None
                else {
                    "x": place.solar_x,
                    "y": place.solar_y,
                    "longitude": place.longitude,
                    "latitude": place.latitude,
                },
            }
        )

    def overlay(self, request: Request) -> Response:
        """Return the limb and the grid of a slot, by instrument."""
        release = self._release
        row = self._row(request)
        shapes: dict[str, Any] = {}
        for name in release.channels:
            instrument = CHANNELS[name].instrument
            if instrument not in shapes and release.has(row, name):
                view = release.geometry(row, name)
                shapes[instrument] = {"limb": view.limb(), "grid": view.grid()}
        return JSONResponse(shapes)

    def curves(self, request: Request) -> Response:
        """Return the light curves of a range."""
        rows = self._rows(request, MAX_CURVE)
        channels = self._channels(request)
        curves = from_index(self._release, rows, channels)
        source = "index" if curves is not None else "pixels"
        if curves is None:
            curves = from_pixels(self._release, rows, channels)
        return JSONResponse(
            {
                "curves": [curve.to_json() for curve in curves],
                "source": source,
                "samples": len(rows),
            }
        )

    async def series(self, request: Request) -> Response:
        """Return the series from the command line or, for POST, from a table in the body."""
        if request.method != "POST":
            return JSONResponse([series.to_json() for series in self._series])
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_TABLE:
                return _error(f"the table is larger than {MAX_TABLE >> 20} MiB", 413)
        name = request.query_params.get("name", "table")[:80]
        try:
            parsed = await run_in_threadpool(parse_series, body, name)
        except SdomlError as error:
            return _error(str(error), 400)
        return JSONResponse([series.to_json() for series in parsed])

    async def movie(self, request: Request) -> Response:
        """Encode a movie of a range. Stop if the browser closes the connection."""
        closed = threading.Event()
        answer = asyncio.ensure_future(_answer(partial(self._movie, closed))(request))
        while not answer.done():
            await asyncio.wait({answer}, timeout=POLL)
            if await request.is_disconnected():
                closed.set()
        return answer.result()

    def _movie(self, closed: threading.Event, request: Request) -> Response:
        kind = request.query_params.get("format", FORMATS[0])
        options = MovieOptions(
            self._channels(request),
            format=kind,
            fps=_integer(request, "fps", 12, 1, 60),
            tile=_integer(request, "size", 256, 64, 1024),
        )
        rows = self._rows(request, MAX_RANGE)

        def check(frames: int) -> None:  # noqa: ARG001 called with the number of frames
            if closed.is_set():
                raise DatasetError("the browser closed the connection")

        data = movie_bytes(self._release, rows, options, progress=check)
        first = self._release.slot(rows[0])
        name = f"sun-{first:%Y%m%d-%H%M}.{kind}"
        return Response(data, media_type=_MEDIA[kind], headers=_download(name))

    def fits(self, request: Request) -> Response:
        """Return a frame as FITS."""
        row = self._row(request)
        (channel, *_) = self._channels(request)
        data = fits_map(self._release, row, channel)
        name = f"{channel.lower()}-{self._release.slot(row):%Y%m%d-%H%M}.fits"
        return Response(data, media_type="application/fits", headers=_download(name))

    def _row(self, request: Request) -> int:
        return self._release.row(parse_time(_text(request, "t"), "t"))

    def _rows(self, request: Request, longest: np.timedelta64) -> range:
        start, end = (parse_time(_text(request, name), name) for name in ("start", "end"))
        if not np.timedelta64(0, "s") < end - start <= longest:
            raise DatasetError(f"the range from {start} to {end} is empty or too long")
        return self._release.rows(start, end)

    def _channels(self, request: Request) -> tuple[str, ...]:
        text = request.query_params.get("channels")
        names = self._release.channels if text is None else tuple(text.split(","))
        return self._release.check_channels(names)

    def _size(self, request: Request) -> int:
        full = self._release.resolution
        size = _integer(request, "size", full, 1, full)
        if full % size:
            raise DatasetError(f"size must divide {full}, but {size} does not")
        return size


def _answer(
    handler: Callable[[Request], Response],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Run a handler in a thread, and turn expected errors into error responses."""

    async def endpoint(request: Request) -> Response:
        try:
            return await run_in_threadpool(handler, request)
        except DatasetError as error:
            return _error(str(error), 400)
        except SdomlError as error:
            return _error(str(error), 500)

    return endpoint


async def _file(path: Path, request: Request) -> Response:  # noqa: ARG001 called by starlette
    return FileResponse(path)


def _seconds(slots: NDArray[np.datetime64], row: int) -> int | None:
    """Return the slot of a row in seconds since 1970. None if it is outside the dataset."""
    return int(slots[row].astype(np.int64)) if 0 <= row < len(slots) else None


def _error(message: str, status: int) -> JSONResponse:
    return JSONResponse({"error": message}, status)


def _download(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _text(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if value is None:
        raise DatasetError(f"the request lacks the parameter {name}")
    return value


def _integer(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit() or not low <= int(text[:12]) <= high:
        raise DatasetError(f"{name} must be a number between {low} and {high}, not {text!r}")
    return int(text)
