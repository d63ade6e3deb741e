"""`compat.SDOMLlite`: the original project's loader, for code that was written for it.

Change only the import::

    from sdoml_core.loader.compat import SDOMLlite

New code should use `sdoml_core.loader.SDOMLlite`, which raises errors for ranges outside the data
and for times without a sample. The class in this module accepts both.
"""

import operator
import os
import warnings
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Final

import numpy as np
import torch
from torch.utils.data import Dataset

from sdoml_core.errors import DatasetError
from sdoml_core.loader import dataset as ours
from sdoml_core.loader.storage.open_folder import open_catalog, open_files
from sdoml_core.loader.times import Time, inside, iso, parse_ranges, parse_time

DELTA: Final = np.timedelta64(15, "m")
DEFAULT_CHANNELS: Final = ("hmi_m", "aia_0131", "aia_0171", "aia_0193", "aia_0211", "aia_1600")


class NoFramesError(DatasetError, RuntimeError):
    """No sample in the range has every channel. The original raises a ``RuntimeError``."""


class SDOMLlite(Dataset[tuple[torch.Tensor | None, str]]):
    """Map-style dataset with the interface and the behavior of the original loader.

    Samples are ``(tensor, time)``: float32 of shape (C, H, W) and an ISO string. A time without a
    sample returns ``(None, time)``.

    Samples lie on a 15-minute grid that begins at `date_start`. The grid ends before `date_end`, so
    a dataset without `date_end` leaves out the last slot of the folder.

    Parameters
    ----------
    data_dir
        Shard folder; see `sdoml_core.loader.SDOMLlite`. Member names can be in uppercase or
        lowercase. Nothing is unpickled.
    channels
        Channel names. Tensors contain the channels in this order. Case is ignored.
    date_start, date_end
        Half-open range: datetime or ISO string. Naive times are UTC. If the start or the end is not
        within the data, it is replaced by the first or last slot of the folder, with a warning.
    date_exclusions
        Half-open ranges (start, end) to leave out.

    Attributes
    ----------
    date_start, date_end : datetime
        The range, as naive datetimes in UTC.
    dates : list of datetime
        Times of the samples.
    dates_set : set of datetime
        Times of the samples, as a set.
    delta_minutes : int
        Step of the time grid in minutes: 15.
    name : str
        Name of the dataset: ``SDOML-lite``.

    Raises
    ------
    NoFramesError
        If no sample has every channel. This is also a ``RuntimeError``.
    DatasetError
        If the folder has no shards. This is also a ``ValueError``.

    Notes
    -----
    This class differs from the original in three ways. Tensors from float16 shards are float32.
    Messages are issued as warnings instead of being printed. No caches that can become stale are
    left in the folder.
    """

    name: Final = "SDOML-lite"
    delta_minutes: Final = 15

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        channels: Sequence[str] = DEFAULT_CHANNELS,
        date_start: Time | None = None,
        date_end: Time | None = None,
        date_exclusions: Iterable[tuple[Time, Time]] | None = None,
    ):
        self.data_dir = data_dir
        self.channels = list(channels)
        self.date_exclusions = None if date_exclusions is None else list(date_exclusions)
        try:
            self._samples = ours.SDOMLlite(data_dir, self.channels)
        except DatasetError as error:
            open_catalog(open_files(data_dir))  # raises an error if there are no shards at all
            raise NoFramesError(str(error)) from error
        slots = self._samples.reader.catalog.slots
        start, end = _range(date_start, date_end, slots[0], slots[-1])
        self.date_start = _datetime(start)
        self.date_end = _datetime(end)
        times = self._samples.times
        on_grid = (times >= start) & (times - start < (end - start) // DELTA * DELTA)
        on_grid &= (times - start) % DELTA == np.timedelta64(0, "s")
        excluded = parse_ranges(self.date_exclusions or (), "date_exclusions")
        self.dates: list[datetime] = times[on_grid & ~inside(times, excluded)].tolist()
        if not self.dates:
            raise NoFramesError(
                f"no sample between {iso(start)} and {iso(end)} in {os.fspath(data_dir)} has all "
                f"requested channels ({', '.join(self.channels)}): request fewer channels or "
                "another range"
            )
        self.dates_set = set(self.dates)

    def __len__(self) -> int:
        return len(self.dates)

    def __getitem__(self, index: int | datetime | str) -> tuple[torch.Tensor | None, str]:
        """Return a sample, given its index, datetime or ISO string.

        Raises
        ------
        IndexError
            If the index is out of range.
        ValueError
            If the argument is of a different type.
        """
        if isinstance(index, str | date):
            time = _datetime(parse_time(index)) if isinstance(index, str) else _naive(index)
        else:
            try:
                time = self.dates[operator.index(index)]
            except TypeError as error:
                raise DatasetError(
                    f"a sample index must be a number, datetime or ISO string, not {index!r}"
                ) from error
        return self.get_data(time), time.isoformat()

    def get_data(self, date: datetime) -> torch.Tensor | None:
        """Return the tensor at a time, or None if there is no sample."""
        time = _naive(date)
        if time not in self.dates_set:
            return None
        pixels: torch.Tensor = self._samples[time][0]
        return pixels

    def __repr__(self) -> str:
        return f"{self.name} ({self.date_start} - {self.date_end})"


def _range(
    start: Time | None, end: Time | None, first: np.datetime64, last: np.datetime64
) -> tuple[np.datetime64, np.datetime64]:
    """Return the range. A limit outside the data is replaced by the first or last slot."""
    low, high = first, last
    if start is not None:
        wanted = parse_time(start, "date_start")
        if first <= wanted < last:
            low = wanted
        else:
            _warn_outside("date_start", wanted, first, last)
    if end is not None:
        wanted = parse_time(end, "date_end")
        if low < wanted <= last:
            high = wanted
        else:
            _warn_outside("date_end", wanted, low, last)
    return low, high


def _warn_outside(
    name: str, wanted: np.datetime64, first: np.datetime64, last: np.datetime64
) -> None:
    used = first if name == "date_start" else last
    warnings.warn(
        f"{name} {iso(wanted)} is not between {iso(first)} and {iso(last)}; "
        f"{iso(used)} is used instead",
        stacklevel=4,
    )


def _datetime(time: np.datetime64) -> datetime:
    return datetime.fromisoformat(iso(time))


def _naive(time: date) -> datetime:
    """Convert to a naive datetime in UTC."""
    if not isinstance(time, datetime):
        return datetime(time.year, time.month, time.day)  # noqa: DTZ001 naive means UTC here
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
