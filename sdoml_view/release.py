"""An open dataset: its frames, their metadata, and their pixels, which are read by byte ranges."""

import os
import tempfile
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DatasetError, SdomlError
from sdoml_core.formats.release_files import RELEASE_INDEX
from sdoml_core.loader.coverage import cadence_of
from sdoml_core.loader.reading.reader import FrameReader
from sdoml_core.loader.reading.units import convert
from sdoml_core.loader.storage.local import LocalFiles
from sdoml_core.loader.storage.open_folder import open_catalog, open_files, without_missing_shards
from sdoml_core.slots import paired_minute
from sdoml_view.coordinates import View
from sdoml_view.display import level_table

CACHE_BYTES: Final = 256 << 20
"""Maximum size of the decoded frames in memory."""

STAND_IN_SECONDS: Final = 90
"""If a frame was observed further from its nominal minute than this, it is a stand-in. Possible
stand-ins are at least 2 minutes away."""

FACTS: Final = ("observed", "exposure", "quality", "rsun_obs", "flags")


@dataclass(frozen=True, slots=True)
class FrameInfo:
    """Metadata of one frame."""

    observed: datetime | None
    exposure: float | None
    """Exposure time in seconds."""
    quality: int | None
    rsun_obs: float | None
    """Apparent solar radius in arcsec."""
    flags: int
    """See `sdoml_core.frames.flags`."""
    stand_in: bool
    """Whether the frame was taken in a different minute than the slot's."""


class Release:
    """A release, a folder of daily shards, or a folder of tar files, local or remote.

    It is thread-safe. It never writes to the folder. A generated index is saved in the user's cache
    folder.

    Parameters
    ----------
    source
        Path or URL.

    Raises
    ------
    SdomlError
        If the dataset cannot be opened.
    """

    def __init__(self, source: str | os.PathLike[str]):
        self.source = os.fspath(source)
        self.files = open_files(source)
        opened = open_catalog(self.files, cache_dir=_cache_folder())
        self.catalog = without_missing_shards(self.files, opened, skip=True)
        if not len(self.catalog):
            raise DatasetError(f"{self.source} has no samples")
        self.channels = self.catalog.channels
        self.reader = FrameReader(
            self.files, self.catalog, self.channels, units="normalized", verify=False
        )
        self._fingerprint = self._files_now()
        self._tables: dict[str, NDArray[np.float32]] = {}
        self._frames: OrderedDict[tuple[int, str], NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._facts_lock = threading.Lock()
        self._groups: tuple[range, ...] = ()
        self._facts: dict[int, dict[str, pa.Table]] = {}
        self._brightness: dict[str, pa.Table] | None = None

    def renewed(self) -> "Release | None":
        """Reopen the dataset. Return None if its files have not changed since it was opened.

        A live dataset replaces its index atomically, so a reader sees either the old or the new
        index.
        """
        if self._files_now() == self._fingerprint:
            return None
        return Release(self.source)

    def _files_now(self) -> list[str]:
        """Return a fingerprint of the index, or of all files if there is no index."""
        if isinstance(self.files, LocalFiles) and self.files.has(RELEASE_INDEX):
            facts = Path(self.files.root, RELEASE_INDEX).stat()
            return [f"{facts.st_ino} {facts.st_size} {facts.st_mtime_ns}"]
        try:
            listing = self.files.list()
        except (SdomlError, OSError, NotImplementedError):
            return []  # the server has no listings, so treat the dataset as unchanged
        index = [file for file in listing if file.name == RELEASE_INDEX]
        return [f"{file.name} {file.size} {file.changed}" for file in index or listing]

    @property
    def name(self) -> str:
        """Last part of the path or URL."""
        return self.files.root.rstrip("/").rpartition("/")[2] or self.files.root

    @property
    def resolution(self) -> int:
        """Pixels along each side of a frame."""
        return self.catalog.resolution

    @cached_property
    def cadence(self) -> int:
        """Seconds between slots."""
        return int(cadence_of(self.catalog.slots).astype(int))

    def slot(self, row: int) -> datetime:
        """Return the slot of a row."""
        time: datetime = self.catalog.slots[row].item()
        return time.replace(tzinfo=UTC)

    def row(self, slot: np.datetime64) -> int:
        """Return the row of a slot.

        Raises
        ------
        DatasetError
            If the dataset has no sample at the time.
        """
        row = int(np.searchsorted(self.catalog.slots, slot))
        if row == len(self.catalog) or self.catalog.slots[row] != slot:
            raise DatasetError(f"there is no sample at {slot}")
        return row

    def rows(self, start: np.datetime64, end: np.datetime64) -> range:
        """Return the rows of the slots in [start, end)."""
        first, last = np.searchsorted(self.catalog.slots, [start, end])
        return range(int(first), int(last))

    def first_view(self, at: np.datetime64 | None = None) -> int:
        """Return the row to show first: the row nearest to a time, or the last complete sample.

        Parameters
        ----------
        at
            Time to show. With None, the last complete sample is shown.
        """
        slots = self.catalog.slots
        if at is not None:
            return int(np.argmin(np.abs(slots - at)))
        recent = (self.reader.offsets[-4096:] >= 0).sum(axis=1)
        best = np.flatnonzero(recent == recent.max())[-1]
        return len(slots) - len(recent) + int(best)

    def has(self, row: int, channel: str) -> bool:
        """Return whether a frame exists."""
        return bool(self.reader.offsets[row, self.channels.index(channel)] >= 0)

    def check_channels(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the channels if the dataset has all of them.

        Raises
        ------
        DatasetError
            If a channel is not in the dataset, or if no channel is given.
        """
        unknown = [name for name in names if name not in self.channels]
        if unknown or not names:
            raise DatasetError(
                f"no channel {', '.join(unknown) or 'given'}; "
                f"the dataset has {', '.join(self.channels)}"
            )
        return tuple(names)

    def frames(self, row: int, channels: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Read normalized frames of a sample, through an in-memory cache.

        Parameters
        ----------
        row
            Row of the sample.
        channels
            Names of the channels. Those without a frame are left out.

        Returns
        -------
        float32 of shape (n, n) by channel. Do not modify these arrays.
        """
        wanted = [name for name in channels if self.has(row, name)]
        found: dict[str, NDArray[np.float32]] = {}
        with self._lock:
            for name in wanted:
                if (row, name) in self._frames:
                    self._frames.move_to_end((row, name))
                    found[name] = self._frames[row, name]
        absent = [name for name in wanted if name not in found]
        if absent:
            numbers = {self.channels.index(name) for name in absent}
            pixels = np.empty(self.reader.shape, np.float32)
            self.reader.read(row, pixels, only=numbers)
            # Copy the frames, because a view would keep all channels in memory.
            new = {name: pixels[self.channels.index(name)].copy() for name in absent}
            with self._lock:
                self._frames.update({(row, name): image for name, image in new.items()})
                size = self.resolution**2 * 4
                while len(self._frames) * size > CACHE_BYTES and len(self._frames) > 1:
                    self._frames.popitem(last=False)
            found |= new
        return {name: found[name] for name in wanted}

    def physical(self, channel: str, pixels: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Return a copy of a frame in DN/s (AIA) or gauss (HMI). None if constants are unknown."""
        facts = self.catalog.constants.get(channel, {})
        if facts.get("constant") is None or facts.get("transform") is None:
            return None
        copy = pixels.copy()
        units = "dn" if channel.startswith("AIA") else "gauss"
        convert(copy, channel, units, self.catalog.constants)
        return copy

    def level_table(self, channel: str) -> NDArray[np.float32]:
        """Return the display levels of a channel; see `sdoml_view.display.level_table`."""
        if channel not in self._tables:
            facts = self.catalog.constants.get(channel, {})
            self._tables[channel] = level_table(channel, facts, self.resolution)
        return self._tables[channel]

    def info(self, row: int, channel: str) -> FrameInfo:
        """Return the metadata of a frame."""
        tables, first = self._facts_of(row)
        scalars = {name: tables[channel].column(name)[row - first] for name in FACTS}
        # Read milliseconds, because the conversion to a datetime would import pandas, which is
        # slow.
        time = scalars.pop("observed")
        observed = datetime.fromtimestamp(time.value / 1000, UTC) if time.is_valid else None
        values = {name: scalar.as_py() for name, scalar in scalars.items()}
        stand_in = False
        if observed is not None:
            nominal = paired_minute(CHANNELS[channel], self.slot(row))
            stand_in = abs((observed - nominal).total_seconds()) > STAND_IN_SECONDS
        return FrameInfo(
            observed=observed,
            exposure=values["exposure"],
            quality=values["quality"],
            rsun_obs=values["rsun_obs"],
            flags=values["flags"] or 0,
            stand_in=stand_in,
        )

    def geometry(self, row: int, channel: str) -> View:
        """Return the geometry of a frame."""
        info = self.info(row, channel)
        return View.of(
            channel,
            resolution=self.resolution,
            observed=info.observed or self.slot(row),
            rsun_obs=info.rsun_obs,
        )

    def brightness(
        self, channel: str, rows: range
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean pixel and the saturated fraction of frames, from the index.

        Returns
        -------
        Two float64 arrays of shape (len(rows),). NaN if there is no frame, or if the index was
        written by an earlier version. The mean is in the unit of processed frames.
        """
        with self._facts_lock:
            if self._brightness is None:
                self._brightness = self.catalog.facts(self.channels, ("mean", "saturated"))
        table = self._brightness[channel].slice(rows.start, len(rows))
        mean, saturated = (
            table.column(name).cast(pa.float64()).to_numpy() for name in ("mean", "saturated")
        )
        return mean, saturated

    def _facts_of(self, row: int) -> tuple[dict[str, pa.Table], int]:
        """Return the metadata of a row's row group, by channel, and the first row of the group."""
        with self._facts_lock:
            if not self._groups:
                self._groups = self.catalog.row_groups()
            group = bisect_right(self._groups, row, key=lambda rows: rows.start) - 1
            if group not in self._facts:
                self._facts[group] = self.catalog.facts(self.channels, FACTS, group=group)
            return self._facts[group], self._groups[group].start


def _cache_folder() -> Path:
    """Return the folder for generated indexes, outside the dataset."""
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path(base) if base else Path.home() / ".cache"
    folder = home / "sdoml-lite" / "view"
    return folder if os.access(home.parent, os.W_OK) else Path(tempfile.gettempdir()) / "sdoml-lite"
