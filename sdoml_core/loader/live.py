"""Read the newest window of the near-real-time dataset, for inference."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError, DatasetError, StoreError
from sdoml_core.formats.release_files import RELEASE_INDEX
from sdoml_core.loader.dataset import DEFAULT_CHANNELS, SDOMLlite
from sdoml_core.loader.reading.reader import FrameReader
from sdoml_core.loader.selection import EVER, INSTANT, check_channels
from sdoml_core.loader.sequences import GAPS, SDOMLliteSequences
from sdoml_core.loader.storage.catalog import Catalog
from sdoml_core.loader.storage.open_folder import open_files
from sdoml_core.loader.times import iso

ATTEMPTS: Final = 5
"""Maximum number of attempts to read a window whose shards are removed in the meantime."""

CADENCE: Final = timedelta(minutes=15)


class LiveWindow(NamedTuple):
    """The frames of several slots, oldest first."""

    frames: torch.Tensor
    """float32 (past, C, H, W). Frames without data are zero."""

    mask: torch.Tensor
    """bool (past, C): whether each frame exists."""

    age: torch.Tensor
    """float32 (past, C): how much older each frame is than its slot, in minutes. NaN if the frame
    is missing."""

    times: list[str]
    """Slots as ISO strings (UTC)."""


class LiveDataset:
    """Reader of the near-real-time dataset, a rolling window that another process updates.

    Samples have the same pixel values, constants and channels as in a release. A slot appears as
    soon as its first frame is available, and more channels are added as they arrive. Readers never
    see a partial update, because shards never change and their index is replaced atomically.

    Parameters
    ----------
    data_dir
        The ``live`` folder of a store, or its URL.
    channels
        Channel names. Tensors contain the channels in this order. Case is ignored.
    units
        ``normalized``, ``dn``, ``gauss`` or ``physical``; see `SDOMLlite`.
    storage_options
        Options for fsspec if `data_dir` is a URL.
    now
        Function that returns the current time (UTC). Defaults to the system clock.

    Raises
    ------
    DatasetError
        If a channel is unknown.
    StoreError
        If the folder has no index yet.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        channels: Sequence[str] = DEFAULT_CHANNELS,
        *,
        units: str = "normalized",
        storage_options: dict[str, Any] | None = None,
        now: Callable[[], datetime] | None = None,
    ):
        self.data_dir = os.fspath(data_dir)
        self._requested = channels
        self._units = units
        self._options = storage_options
        self._now = now or (lambda: datetime.now(UTC))
        self._files = open_files(data_dir, storage_options=storage_options)
        self._version = ""
        self.refresh()

    @property
    def channels(self) -> tuple[str, ...]:
        """Channel names, in the order of the tensors."""
        return self._reader.channels

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Slots with at least one frame, ascending, as of the last refresh."""
        return self._reader.catalog.slots[self._present]

    @property
    def normalization_version(self) -> str:
        """Version of the constants. It must match the version that a model was trained with."""
        return self._reader.catalog.normalization_version

    def __len__(self) -> int:
        return int(self._present.sum())

    def refresh(self) -> bool:
        """Reread the index if it was replaced, and return whether it was replaced."""
        version = self._files.version(RELEASE_INDEX)
        if version == self._version:
            return False
        catalog = Catalog(self._files.read(RELEASE_INDEX))
        # Drop the open handles. They would keep the disk space of removed shards from being freed.
        self._files = open_files(self.data_dir, storage_options=self._options)
        channels = check_channels(self._requested, catalog.channels, self._files.root)
        self._reader = FrameReader(self._files, catalog, channels, units=self._units, verify=True)
        self._present = (self._reader.offsets >= 0).any(axis=1)
        self._version = version
        return True

    def latest(
        self,
        past: int = 8,
        stride: timedelta = CADENCE,
        max_age: timedelta | None = None,
        *,
        gaps: str | None = None,
    ) -> LiveWindow:
        """Return the newest window that the gap policy allows.

        Parameters
        ----------
        past
            Number of slots, including the newest.
        stride
            Time between slots.
        max_age
            Maximum age of the newest slot, and of frames that replace missing frames. With None,
            the window may have any age, and missing frames are not replaced.
        gaps
            ``drop``, ``mask``, ``hold`` or ``raise``; see `SDOMLliteSequences`. ``raise`` raises an
            error if the window of the newest slot lacks frames. Defaults to ``hold`` if `max_age`
            is given, and otherwise to ``mask``.

        Raises
        ------
        DatasetError
            If no window is both new enough and complete enough. The message contains the age of the
            newest slot.
        """
        self.refresh()
        return self._read(lambda: self._windows(past, stride, max_age, gaps), -1, max_age)

    def windows(
        self,
        past: int = 8,
        stride: timedelta = CADENCE,
        max_age: timedelta | None = None,
        *,
        gaps: str | None = None,
        poll: float = 1.0,
        timeout: float | None = None,
    ) -> Iterator[LiveWindow]:
        """Yield the newest window, and then the window of each new slot as it appears.

        Each slot is yielded once, as soon as the gap policy allows it. With ``drop``, this is when
        all of its channels have arrived.

        Parameters
        ----------
        past, stride, max_age, gaps
            See `latest`.
        poll
            Seconds between checks of the index.
        timeout
            Number of seconds without a new slot after which the iteration ends. With None, it never
            ends.
        """
        last: np.datetime64 | None = None
        waited_since = time.monotonic()
        while True:
            self.refresh()
            try:
                found = self._windows(past, stride, max_age, gaps).times
            except DatasetError:
                found = np.zeros(0, "datetime64[s]")
            new = found[-1:] if last is None else found[found > last]
            for slot in new:
                last = slot
                try:
                    window = self._read(
                        lambda: self._windows(past, stride, max_age, gaps), slot, max_age
                    )
                except DatasetError:
                    continue  # the slot is too old by now
                yield window
                waited_since = time.monotonic()
            if timeout is not None and time.monotonic() - waited_since >= timeout:
                return
            if not len(new):
                time.sleep(poll)

    def _windows(
        self, past: int, stride: timedelta, max_age: timedelta | None, gaps: str | None
    ) -> SDOMLliteSequences:
        """Return all windows that the gap policy allows."""
        gaps = gaps or ("mask" if max_age is None else "hold")
        if gaps not in GAPS:
            raise DatasetError(f"unknown gap policy {gaps!r}; use one of {', '.join(GAPS)}")
        source = _Slots(self._reader)
        if not len(source.ranges):
            raise DatasetError(f"{self.data_dir} has no slots yet")
        # Sequences need only the reader and the selection of a dataset. `SDOMLlite` would reject a
        # window in which no slot has every channel.
        found = SDOMLliteSequences(
            cast("SDOMLlite", source),
            past=past,
            stride=stride,
            gaps="drop" if gaps == "raise" else gaps,
            max_age=max_age if gaps == "hold" else None,
        )
        if gaps == "raise" and found.times[-1] != self.times[-1]:
            raise DatasetError(f"the window that ends at {iso(self.times[-1])} lacks frames")
        return found

    def _read(
        self,
        find: Callable[[], SDOMLliteSequences],
        which: int | np.datetime64,
        max_age: timedelta | None,
    ) -> LiveWindow:
        """Read a window. Retry if its shards were removed in the meantime."""
        for attempt in range(ATTEMPTS):
            windows = find()
            number = (
                len(windows) - 1
                if isinstance(which, int)
                else int(np.searchsorted(windows.times, which))
            )
            self._check_age(windows.times[min(number, len(windows) - 1)], max_age)
            if number >= len(windows) or (
                not isinstance(which, int) and windows.times[number] != which
            ):
                raise DatasetError(
                    f"the window that ends at {which} is too old and was removed from "
                    f"{self.data_dir}"
                )
            try:
                return self._window(windows, number)
            except (StoreError, DamagedFileError):
                # Old shards are kept for a while, but this process may have been suspended for
                # longer than that.
                if attempt + 1 == ATTEMPTS or not self.refresh():
                    raise
        raise AssertionError

    def _window(self, windows: SDOMLliteSequences, number: int) -> LiveWindow:
        item = windows[number]
        if "mask" in item:
            mask = item["mask"]
            age = torch.where(mask, 0.0, torch.nan)
        else:
            age = item.get("age")
            if age is None:
                age = torch.zeros(item["past"].shape[:2])
            mask = torch.ones(age.shape, dtype=torch.bool)
        return LiveWindow(item["past"], mask, age, list(item["times"]))

    def _check_age(self, newest: np.datetime64, max_age: timedelta | None) -> None:
        old = self._now().replace(tzinfo=None) - cast("datetime", newest.item())
        if max_age is not None and old > max_age:
            raise DatasetError(
                f"the newest window in {self.data_dir} ended {old} ago, at {iso(newest)}, but "
                f"max_age is {max_age}"
            )


class _Slots:
    """A dataset of all slots in the window, for sequences. Slots may lack channels."""

    def __init__(self, reader: FrameReader):
        slots = reader.catalog.slots
        self.reader = reader
        self.selection = self
        # A window may begin before the first slot. Its earlier frames are then missing.
        self.ranges = [(EVER[0], slots[-1] + INSTANT)] if len(slots) else []
        self._rows = len(slots)

    def allowed(self) -> NDArray[np.bool_]:
        """Return True for all slots."""
        return np.ones(self._rows, bool)
