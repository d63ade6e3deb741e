"""Sequences of frames, with a forecast horizon and a policy for gaps."""

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, default_collate

from sdoml_core.errors import DatasetError
from sdoml_core.loader.arguments import check_counts
from sdoml_core.loader.coverage import cadence_of
from sdoml_core.loader.dataset import SDOMLlite
from sdoml_core.loader.reading.buffers import Buffers
from sdoml_core.loader.reading.collate import Metadata, Times
from sdoml_core.loader.reading.prefetch import Pending
from sdoml_core.loader.selection import Selection
from sdoml_core.loader.targets.matching import NO_TARGETS, Targets, one_sample
from sdoml_core.loader.targets.series import TimeSeries
from sdoml_core.loader.timed_transform import TimedTransform
from sdoml_core.loader.times import iso, parse_duration

GAPS: Final = ("drop", "mask", "hold", "raise")


class SDOMLliteSequences(Dataset[dict[str, Any]]):
    """Sequences of frames around each time of a dataset.

    The sequence at time t contains the frames at t − (past − 1)·stride, …, t − stride, t. With a
    horizon, it also contains `future` frames at t + horizon, t + horizon + stride, and so on. All
    frames are in the same range of the dataset. Excluded frames are treated as missing.

    Items are dictionaries with the float32 tensors ``past`` of shape (past, C, H, W) and, with a
    horizon, ``future`` of shape (future, C, H, W). ``time`` is t as an ISO string, and ``times`` is
    a list of the ISO strings of all frames. Depending on the policy, ``mask`` or ``age`` has the
    shape (past + future, C). If the dataset has ``metadata=True``, ``metadata`` is a list with one
    dictionary per frame: the metadata by channel, or None for missing frames. If an earlier frame
    replaces a missing frame, the metadata are those of the earlier frame. In a batch, ``times``
    and ``metadata`` are lists of such lists, ``[sample][frame]``, with `BatchLoader` and with
    PyTorch's ``DataLoader``.

    Parameters
    ----------
    dataset
        The dataset. Its transform is applied to each frame (C, H, W), including missing frames.
    past
        Number of frames up to and including t.
    stride
        Time between frames. Defaults to the cadence of the data.
    horizon
        Time from t to the first frame to forecast. With None, there are no future frames.
    future
        Number of frames to forecast.
    gaps
        With ``drop``, only sequences without missing frames are included. With ``mask``, all
        sequences are included. Missing frames are zero, and ``mask`` (bool) is True for frames that
        exist. With ``hold``, a missing past frame is replaced by the last earlier frame of its
        channel, which may be at most `max_age` older. ``age`` (float32, minutes) is the difference.
        Sequences that cannot be filled in this way, or that lack a future frame, are left out. With
        ``raise``, a missing frame raises an error when the sequences are created.
    max_age
        Maximum age of a replacement frame, for ``hold``.
    targets
        Dictionary of series to return with the frames. Items then have ``targets`` and
        ``target_mask``, which are dictionaries of float32 and bool tensors of shape (past +
        future,), or of scalars for series with ``per="sample"``. A sequence is left out if a series
        has a gap, unless the series has ``gaps="mask"``. Values never depend on times outside the
        range that contains t, or within exclusions. Defaults to the targets of the dataset.
    transform
        Called with each item.

    Raises
    ------
    DatasetError
        If the policy is unknown, the stride or horizon is invalid, or no sequence remains.
    """

    def __init__(
        self,
        dataset: SDOMLlite,
        *,
        past: int,
        stride: timedelta | None = None,
        horizon: timedelta | None = None,
        future: int = 1,
        gaps: str = "drop",
        max_age: timedelta | None = None,
        targets: Mapping[str, TimeSeries] | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ):
        if gaps not in GAPS:
            raise DatasetError(f"unknown gap policy {gaps!r}; use one of {', '.join(GAPS)}")
        if (gaps == "hold") != (max_age is not None):
            raise DatasetError("max_age requires gaps='hold', and gaps='hold' requires max_age")
        check_counts(past=past, future=future)
        if past < 1 or (horizon is not None and future < 1):
            raise DatasetError(f"past and future must be at least 1, not {past} and {future}")
        slots = dataset.reader.catalog.slots
        step = cadence_of(slots) if stride is None else parse_duration(stride, "stride")
        ahead = None if horizon is None else parse_duration(horizon, "horizon")
        zero = np.timedelta64(0, "s")
        if step <= zero or (ahead is not None and ahead <= zero):
            raise DatasetError("stride and horizon must be positive")
        self.dataset = dataset
        self.past = past
        self.future = 0 if ahead is None else future
        self.gaps = gaps
        self.transform = transform
        self._offsets = np.arange(1 - past, 1) * step
        if ahead is not None:
            self._offsets = np.append(self._offsets, ahead + np.arange(future) * step)
        self._max_age = zero if max_age is None else parse_duration(max_age, "max_age")
        self._buffers = Buffers()
        # A live window has a reader and a selection, but it is not a complete dataset.
        frame_transform = getattr(dataset, "transform", None)
        self._frame_transform = None if frame_transform is None else TimedTransform(frame_transform)
        self._with_metadata = bool(getattr(dataset, "metadata", False))
        targets = getattr(dataset, "targets", None) if targets is None else targets
        self._targets = None if targets is None else Targets(targets, step)
        self._find()

    @property
    def selection(self) -> Selection:
        """Ranges and exclusions of the dataset, for `TimeSeries.fitted`."""
        return self.dataset.selection

    def _find(self) -> None:
        """Find the times of all sequences."""
        dataset, slots = self.dataset, self.dataset.reader.catalog.slots
        allowed = dataset.selection.allowed()
        there = (dataset.reader.offsets >= 0) & allowed[:, None]
        rows = np.arange(len(slots))[:, None]
        # For each row, the row of the latest frame of each channel; −1 before the first frame.
        self._latest = np.maximum.accumulate(np.where(there, rows, -1).astype(np.int32), axis=0)
        whole = np.zeros(len(slots), bool)
        for start, end in dataset.selection.ranges:
            whole |= (slots + self._offsets[0] >= start) & (slots + self._offsets[-1] < end)
        candidates = np.flatnonzero(whole & there.any(axis=1))
        filled = np.ones(len(candidates), bool)
        for number, offset in enumerate(self._offsets if self.gaps != "mask" else ()):
            age = self._ages(slots[candidates] + offset)[1]
            limit = self._max_age if number < self.past else np.timedelta64(0, "s")
            filled &= (age <= limit).all(axis=1)
        self.anchors: NDArray[np.int64] = candidates[filled]
        if self.gaps == "raise" and not filled.all():
            gaps = slots[candidates[~filled]]
            raise DatasetError(
                f"{len(gaps)} of {len(filled)} sequences lack frames, the first at {iso(gaps[0])}; "
                "use gaps='drop', 'mask' or 'hold'"
            )
        if self._targets is not None and len(self.anchors):
            complete = self._targets.complete(slots[self.anchors], self._offsets, dataset.selection)
            if not complete.any():
                raise DatasetError(
                    f"none of the {len(self.anchors)} sequences has all targets. {NO_TARGETS}"
                )
            self.anchors = self.anchors[complete]
        if not len(self.anchors):
            raise DatasetError(
                f"no sequence of {len(self._offsets)} frames that spans "
                f"{(self._offsets[-1] - self._offsets[0]).item()} can be filled; "
                f"{len(candidates)} times are far enough from the ends of the range, and samples "
                f"are {cadence_of(slots).item()} apart"
            )

    def _ages(
        self, times: NDArray[np.datetime64]
    ) -> tuple[NDArray[np.int64], NDArray[np.timedelta64]]:
        """Return the row and the age of the latest frame of each channel at the given times.

        Both have the shape (times, C). The age is 0 if there is a frame at the time itself. It
        exceeds any limit if there is no frame, or if the frame is in another range.
        """
        slots = self.dataset.reader.catalog.slots
        rows = np.searchsorted(slots, times, side="right") - 1
        latest = np.where(rows[:, None] >= 0, self._latest[rows], -1)
        age = times[:, None] - slots[latest]
        never = np.timedelta64(np.iinfo(np.int64).max, "s")
        for start, end in self.dataset.selection.ranges:
            here = ((times >= start) & (times < end))[:, None]
            age = np.where(here & (slots[latest] < start), never, age)
        return latest, np.where(latest >= 0, age, never)

    def __len__(self) -> int:
        return len(self.anchors)

    def __getitem__(self, index: int) -> Any:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(
                f"sequence index {number} is out of range: there are {len(self)} sequences"
            )
        pixels, ages, reads = self._reads([number])
        for read in reads:
            read()
        item = self._items([number], pixels, ages)[0]
        return item if self.transform is None else self.transform(item)

    def pending(self, indices: Sequence[int]) -> Pending:
        """Prepare a batch of sequences for `BatchLoader`."""
        pixels, ages, reads = self._reads(indices)
        return Pending(reads, lambda: self._batch(indices, pixels, ages))

    @property
    def times(self) -> NDArray[np.datetime64]:
        """Times t of all sequences, as datetime64[s] (UTC)."""
        return self.dataset.reader.catalog.slots[self.anchors]

    def _reads(
        self, indices: Sequence[int]
    ) -> tuple[torch.Tensor, NDArray[np.timedelta64], list[Callable[[], None]]]:
        """Return memory for a batch, the ages of its frames (B, frames, C), and the read tasks."""
        ages, sources = self._sources(indices)
        shape = self.dataset.reader.shape
        pixels = self._buffers.take((*ages.shape[:2], *shape))
        frames = pixels.reshape(-1, *shape)
        reads: list[Callable[[], None]] = [
            partial(self._fill, out, source)
            for out, source in zip(frames, sources.reshape(len(frames), -1).tolist(), strict=True)
        ]
        return torch.from_numpy(pixels), ages, reads

    def _sources(self, indices: Sequence[int]) -> tuple[NDArray[np.timedelta64], NDArray[np.int64]]:
        """Return the age and the catalog row (−1 if missing) of each frame, each (B, frames, C)."""
        times = self.times[list(indices)][:, None] + self._offsets
        latest, ages = self._ages(times.ravel())
        limit = np.timedelta64(0, "s") if self.gaps == "mask" else self._max_age
        sources = np.where(ages <= limit, latest, -1)
        return ages.reshape(*times.shape, -1), sources.reshape(*times.shape, -1)

    def _fill(self, out: NDArray[np.float32], source: list[int]) -> None:
        """Read each channel of a frame from its row. Missing channels are set to zero."""
        for row in set(source):
            channels = [channel for channel, its in enumerate(source) if its == row]
            if row < 0:
                out[channels] = 0
            else:
                self.dataset.reader.read(row, out, channels)

    def _items(
        self, indices: Sequence[int], pixels: torch.Tensor, ages: NDArray[np.timedelta64]
    ) -> list[dict[str, Any]]:
        items = []
        targets = self._targets_of(indices)
        metadata = self._metadata_of(indices)
        for number, (anchor, frames, age) in enumerate(
            zip(self.times[list(indices)], pixels, ages, strict=True)
        ):
            times = Times(iso(anchor + offset) for offset in self._offsets)
            values = self._transformed(frames, times)
            item: dict[str, Any] = {"past": values[: self.past]}
            if self.future:
                item["future"] = values[self.past :]
            item["time"] = iso(anchor)
            item["times"] = times
            if metadata:
                item["metadata"] = metadata[number]
            items.append(item | self._marks(age) | one_sample(targets, number))
        return items

    def _transformed(self, frames: torch.Tensor, times: Times) -> Any:
        """Apply the dataset's transform to each frame of a sequence."""
        if self._frame_transform is None:
            return frames
        pairs = zip(frames, times, strict=True)
        return default_collate([self._frame_transform(frame, time) for frame, time in pairs])

    def _metadata_of(self, indices: Sequence[int]) -> list[Metadata]:
        """Return the frame metadata of each sequence. Empty if metadata are not requested."""
        if not self._with_metadata:
            return []
        facts, channels = self.dataset.frame_facts, self.dataset.channels
        return [
            Metadata(
                {
                    name: None if row < 0 else facts(row, name)
                    for name, row in zip(channels, rows, strict=True)
                }
                for rows in sequence
            )
            for sequence in self._sources(indices)[1].tolist()
        ]

    def _targets_of(self, indices: Sequence[int]) -> dict[str, dict[str, torch.Tensor]]:
        """Return the targets of a batch. Empty if there are no series."""
        if self._targets is None:
            return {}
        anchors = self.times[list(indices)]
        return self._targets.of(anchors, self._offsets, self.dataset.selection)

    def _marks(self, ages: NDArray[np.timedelta64]) -> dict[str, torch.Tensor]:
        """Return the mask or the ages of frames, depending on the gap policy."""
        if self.gaps == "mask":
            return {"mask": torch.from_numpy(ages == np.timedelta64(0, "s"))}
        if self.gaps == "hold":
            minutes = ages.astype("timedelta64[s]").astype(np.float32) / 60
            return {"age": torch.from_numpy(minutes)}
        return {}

    def _batch(
        self, indices: Sequence[int], pixels: torch.Tensor, ages: NDArray[np.timedelta64]
    ) -> Any:
        """Combine items into one dictionary with stacked tensors."""
        items = self._items(indices, pixels, ages)
        if self.transform is not None:
            return default_collate([self.transform(item) for item in items])
        if self._frame_transform is not None:
            return default_collate(items)
        batch: dict[str, Any] = {"past": pixels[:, : self.past]}
        if self.future:
            batch["future"] = pixels[:, self.past :]
        lists = ("time", "times", *(["metadata"] if self._with_metadata else []))
        batch |= {key: [item[key] for item in items] for key in lists}
        return batch | self._marks(ages) | self._targets_of(indices)
