"""The near-real-time tree, in which each frame appears minutes after its exposure.

AIA frames of every third minute are in ``…/synoptic/nrt``. HMI images appear in the ordinary
catalog with the quick-look label, and without it a day later. The time at which a frame
appears depends only on its name, the seed and the plan, so that tests can predict it.
"""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http import HTTPStatus

from sdoml_core.channels import CHANNELS, Channel
from sdoml_dagster.archive.tree import archive_path, live_path
from sdoml_demo.absences import QUICKLOOK_BIT, Condition, condition
from sdoml_demo.clock import Clock
from sdoml_demo.files import AIA_TREE, HMI_TREE, Frames
from sdoml_demo.render.aia import PASSBANDS
from sdoml_demo.render.plain_file import truncated
from sdoml_demo.render.solar_state import digest, uniform

LIVE_TREE = f"{AIA_TREE}nrt/"
LIVE_CADENCE = timedelta(minutes=3)

_MINUTE = timedelta(minutes=1)
_AIA_DELAY = (15, 25)
"""Minutes from the exposure to the appearance of an AIA frame, as observed by real clients."""
_HMI_DELAY = (55, 70)
_WRITING = timedelta(seconds=45)
"""Time during which a new AIA file is only partly readable."""
_RENDERED_AGAIN = timedelta(hours=24)
"""Age at which an HMI image is replaced by an image without the quick-look label."""

_AIA_FOLDER = re.compile(re.escape(LIVE_TREE) + r"(\d{4})/(\d\d)/(\d\d)/H(\d\d)00/")
_AIA_FILE = re.compile(re.escape(LIVE_TREE) + r".*/AIA(\d{8}_\d{4})00_(\d{4})\.fits")
_HMI_FILE = re.compile(re.escape(HMI_TREE) + r".*/(\d{8}_\d{4})00_M_1k\.jpg")

_HTML = "text/html;charset=UTF-8"

Span = tuple[datetime, datetime]
"""Half-open range of simulated times."""


@dataclass(frozen=True)
class LivePlan:
    """Simulated faults of the near-real-time tree."""

    seed: int = 0

    silent: Mapping[str, Sequence[Span]] = field(default_factory=dict)
    """Ranges of exposure times whose frames never appear, by channel."""

    down: Sequence[Span] = ()
    """Ranges of time in which the server responds to every request with 503."""

    absences: bool = False
    """Whether some frames are missing or have bad quality, as in the definitive tree."""

    uncompressed: float = 0.3
    """Fraction of AIA files that are uncompressed, with the image in HDU 0."""

    keep: timedelta = timedelta(days=13)
    """Age at which AIA files are removed."""

    listings: bool = True
    """Whether the server lists folders. If not, it responds with 403."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response from the server."""

    status: HTTPStatus
    body: bytes = b""
    kind: str = _HTML
    modified: datetime | None = None
    """Time for the Last-Modified header."""


class LiveTree:
    """Responds to requests for near-real-time files, based on the time of a clock.

    Parameters
    ----------
    clock
        The simulated time.
    frames
        Renders and caches frames.
    plan
        Simulated faults.
    """

    def __init__(self, clock: Clock, frames: Frames, plan: LivePlan | None = None) -> None:
        self.clock = clock
        self.plan = plan or LivePlan()
        self.frames = frames

    def respond(self, path: str) -> Response | None:
        """Return the response to a request, or None for paths of the definitive AIA tree."""
        now = self.clock.now()
        if any(start <= now < end for start, end in self.plan.down):
            return Response(HTTPStatus.SERVICE_UNAVAILABLE)
        if path == f"{LIVE_TREE}image_times":
            return self._image_times("AIA", now)
        if path == f"{HMI_TREE}image_times":
            return self._image_times("HMI", now)
        if match := _AIA_FOLDER.fullmatch(path):
            return self._listing(path, datetime(*map(int, match.groups()), tzinfo=UTC), now)  # type: ignore[misc,arg-type]
        if path.startswith((LIVE_TREE, HMI_TREE)):
            return self._file(path, now)
        return None

    def appears(self, channel: Channel, minute: datetime) -> datetime | None:
        """Return the time from which a frame is completely readable, or None if it never is."""
        if minute.minute % (15 if channel.instrument == "HMI" else 3):
            return None
        if channel.wavelength not in PASSBANDS and channel.instrument == "AIA":
            return None
        spans = self.plan.silent.get(channel.name, ())
        if (
            any(start <= minute < end for start, end in spans)
            or self._condition(channel, minute) is None
        ):
            return None
        low, high = _AIA_DELAY if channel.instrument == "AIA" else _HMI_DELAY
        draw = uniform("appears", self.plan.seed, f"{minute:%Y%m%d%H%M}", channel.name)
        # Use whole seconds, because HTTP dates have no fractions.
        delay = timedelta(seconds=round(60 * (low + (high - low) * draw)))
        return minute + delay + (_WRITING if channel.instrument == "AIA" else timedelta(0))

    def _condition(self, channel: Channel, minute: datetime) -> Condition | None:
        if not self.plan.absences:
            return Condition()
        return condition(channel, minute)

    def _image_times(self, instrument: str, now: datetime) -> Response:
        """Return the ``image_times`` file, with the newest time that has a complete frame."""
        step = LIVE_CADENCE if instrument == "AIA" else 15 * _MINUTE
        channels = [c for c in CHANNELS.values() if c.instrument == instrument]
        first = min(_AIA_DELAY) if instrument == "AIA" else min(_HMI_DELAY)
        minute = _floor(now - first * _MINUTE, step)
        while now - minute < self.plan.keep:
            times = [time for c in channels if (time := self.appears(c, minute)) and time <= now]
            if times:
                zone = "UTC" if instrument == "AIA" else "TAI"
                body = f"Time     {minute:%Y%m%d_%H%M%S}_{zone}\n"
                return Response(HTTPStatus.OK, body.encode("ascii"), "text/plain", min(times))
            minute -= step
        return Response(HTTPStatus.NOT_FOUND)

    def _listing(self, path: str, hour: datetime, now: datetime) -> Response:
        """Return a folder listing in Apache's format."""
        if not self.plan.listings:
            return Response(HTTPStatus.FORBIDDEN)
        rows = [
            f'<li><a href="{name}">{name}</a></li>'
            for name in (live_path(c, m).rsplit("/", 1)[-1] for c, m in self._begun(hour, now))
        ]
        if not rows:
            return Response(HTTPStatus.NOT_FOUND)
        title = f"Index of {html.escape(path.rstrip('/'))}"
        body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1><ul>"
        return Response(HTTPStatus.OK, "\n".join([body, *rows, "</ul></body></html>"]).encode())

    def _begun(self, hour: datetime, now: datetime) -> Iterator[tuple[Channel, datetime]]:
        """Yield the AIA frames of an hour that are at least partly readable."""
        for number in range(20):
            minute = hour + number * LIVE_CADENCE
            for channel in CHANNELS.values():
                whole = self.appears(channel, minute) if channel.instrument == "AIA" else None
                if whole and whole - _WRITING <= now < minute + self.plan.keep:
                    yield channel, minute

    def _file(self, path: str, now: datetime) -> Response:
        place = _place(path)
        whole = self.appears(*place) if place else None
        if place is None or whole is None:
            return Response(HTTPStatus.NOT_FOUND)
        channel, minute = place
        aia = channel.instrument == "AIA"
        if now < whole - (_WRITING if aia else timedelta(0)):
            refused = digest("refused", path) % 2
            return Response(HTTPStatus.FORBIDDEN if refused else HTTPStatus.NOT_FOUND)
        if aia and now >= minute + self.plan.keep:
            return Response(HTTPStatus.NOT_FOUND)
        state = self._condition(channel, minute) or Condition()
        if aia:
            plain = uniform("plain", self.plan.seed, path) < self.plan.uncompressed
            state = Condition(state.quality | QUICKLOOK_BIT, spotted=state.spotted)
            body = self.frames.near_real_time(channel, minute, state, uncompressed=plain)
            return Response(
                HTTPStatus.OK,
                body if now >= whole else truncated(body),
                "application/fits",
                whole if now >= whole else whole - _WRITING,
            )
        label = now < minute + _RENDERED_AGAIN
        state = Condition(black=state.black, quicklook_label=label)
        body = self.frames.near_real_time(channel, minute, state)
        return Response(HTTPStatus.OK, body, "image/jpeg", whole)


def http_date(time: datetime) -> str:
    """Format a time for an HTTP header."""
    return format_datetime(time.replace(microsecond=0), usegmt=True)


def _floor(time: datetime, step: timedelta) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (time - midnight) // step * step


def _place(path: str) -> tuple[Channel, datetime] | None:
    """Return the channel and minute for a path, or None if the tree has no such path."""
    try:
        if match := _AIA_FILE.fullmatch(path):
            channel, tree = CHANNELS.get(f"AIA_{match[2]}"), LIVE_TREE
        elif match := _HMI_FILE.fullmatch(path):
            channel, tree = CHANNELS["HMI_M"], HMI_TREE
        else:
            return None
        minute = datetime.strptime(match[1], "%Y%m%d_%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    if channel is None:
        return None
    below = live_path(channel, minute) if channel.instrument == "AIA" else None
    expected = AIA_TREE + below if below else tree + archive_path(channel, minute)
    return (channel, minute) if path == expected else None
