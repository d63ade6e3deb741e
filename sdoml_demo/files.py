"""The archive's files by path. They are rendered on request and kept in a cache folder.

A frame depends only on its name. The name of the cache folder contains a hash of the rendering
code, so that old frames are never served after a code change.
"""

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

import PIL

from sdoml_core.channels import CHANNELS, Channel
from sdoml_dagster.archive.tree import archive_path
from sdoml_demo.absences import PERFECT, Condition, condition, exists
from sdoml_demo.render import plain_file
from sdoml_demo.render.aia import PASSBANDS
from sdoml_demo.render.aia_file import render_aia
from sdoml_demo.render.hmi import render_hmi, shrink
from sdoml_demo.render.solar_state import digest

AIA_TREE = "/data/aia/synoptic/"
HMI_TREE = "/data/hmi/images/"

_AIA_NAME = re.compile(r"AIA(\d{8}_\d{4})_(\d{4})\.fits")
_HMI_NAME = re.compile(r"(\d{8}_\d{4})00_M_1k\.jpg")


def default_cache() -> Path:
    """Return the folder for rendered frames.

    It is in the user's cache folder. If that is read-only, as in some containers, the folder for
    temporary files is used.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "sdoml-demo-archive"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        pass
    else:
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"sdoml-demo-archive-{os.getuid()}"


class Frames:
    """The archive's files by path, from the cache or rendered.

    Parameters
    ----------
    folder
        Cache folder.
    absences
        If False, every frame that can exist is present and good.
    lag_days
        Days until a frame is published.
    now
        Called to get the current time (UTC). Defaults to the real time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        absences: bool = True,
        lag_days: float = 0.0,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        kind = "with-absences" if absences else "complete"
        self._folder = folder / f"{_rendering()}-{kind}"
        self._folder.mkdir(parents=True, exist_ok=True)  # report an unusable folder at startup
        self._absences = absences
        self._lag = timedelta(days=lag_days)
        self._now = now or partial(datetime.now, UTC)
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, path: str) -> bytes | None:
        """Return the file at a path such as ``/data/hmi/images/…``, or None if there is none."""
        place = parse_path(path)
        if place is None:
            return None
        channel, minute = place
        if not exists(channel, minute) or minute > self._now() - self._lag:
            return None
        state = condition(channel, minute) if self._absences else PERFECT
        if state is None:
            return None
        return self._kept(path.lstrip("/"), partial(_render, channel, minute, state))

    def near_real_time(
        self, channel: Channel, minute: datetime, state: Condition, *, uncompressed: bool = False
    ) -> bytes:
        """Return a near-real-time frame in the given state."""
        mark = f"{state.quality:x}-{state.spotted:d}{state.black:d}{state.quicklook_label:d}"
        name = f"nrt/{minute:%Y%m%d}/{minute:%H%M}-{channel.name}-{mark}"
        data = self._kept(name, partial(_render, channel, minute, state))
        return plain_file.uncompressed(data) if uncompressed else data

    def _kept(self, name: str, render: Callable[[], bytes]) -> bytes:
        """Return a file from the cache. If it is not cached, render it first."""
        file = self._folder / name
        with self._turn(name):
            with contextlib.suppress(FileNotFoundError):
                return file.read_bytes()
            data = render()
            _write(file, data)
            return data

    def other(self, path: str) -> bytes:
        """Return an intact frame that clearly differs from the frame at a path.

        For AIA, the other frame has a different wavelength or is from two hours earlier. HMI files
        do not contain their time, so the other HMI image has half the size.
        """
        place = parse_path(path)
        if place is None:  # faults affect only existing frames
            raise AssertionError
        channel, minute = place
        if channel.instrument == "HMI":
            return shrink(render_hmi(minute, PERFECT))
        if digest("wrong", path) % 2:
            return render_aia(minute, 171 if channel.wavelength == 193 else 193, PERFECT)
        return render_aia(minute - timedelta(hours=2), channel.wavelength, PERFECT)

    @contextlib.contextmanager
    def _turn(self, path: str) -> Iterator[None]:
        """Hold the lock for a path, so that only one thread renders the file."""
        with self._lock:
            lock = self._locks.setdefault(path, threading.Lock())
        with lock:
            yield
        with self._lock:
            self._locks.pop(path, None)


def _render(channel: Channel, minute: datetime, state: Condition) -> bytes:
    if channel.instrument == "AIA":
        return render_aia(minute, channel.wavelength, state)
    return render_hmi(minute, state)


@cache
def _rendering() -> str:
    """Return a hash of what affects rendering: the code, the real frames and Pillow's version."""
    digest = hashlib.sha256(PIL.__version__.encode())
    package = files("sdoml_demo")
    digest.update((package / "absences.py").read_bytes())
    for name in ("render", "data", "data/real_2014"):
        for file in sorted((package / name).iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".fits")):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".")
    with os.fdopen(handle, "wb") as temporary:
        temporary.write(data)
    Path(name).replace(file)


def parse_path(path: str) -> tuple[Channel, datetime] | None:
    """Return the channel and minute for a path, or None if the archive has no such path."""
    name = path.rsplit("/", 1)[-1]
    try:
        if match := _AIA_NAME.fullmatch(name):
            if int(match[2]) not in PASSBANDS:
                return None
            channel, tree = CHANNELS[f"AIA_{match[2]}"], AIA_TREE
        elif match := _HMI_NAME.fullmatch(name):
            channel, tree = CHANNELS["HMI_M"], HMI_TREE
        else:
            return None
        minute = datetime.strptime(match[1], "%Y%m%d_%H%M").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (channel, minute) if path == tree + archive_path(channel, minute) else None
