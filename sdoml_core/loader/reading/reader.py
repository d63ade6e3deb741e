"""Read frames from shards directly into the memory of a tensor."""

import sys
import threading
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.errors import DamagedFileError, DatasetError
from sdoml_core.formats.compact import decode_compact
from sdoml_core.formats.members import npy_header
from sdoml_core.loader.reading.units import Units, check_units, convert
from sdoml_core.loader.storage.catalog import Catalog
from sdoml_core.loader.storage.local import RangeFiles

MAX_GAP: Final = 8192
"""Frames with at most this many bytes between them are read with one call. The bytes between
adjacent members are tar and npy headers, whose size depends on the tool that wrote the shard."""

MAX_COMPACT_GAP: Final = 12 * 1024
"""Like `MAX_GAP`, for compact frames, which have FITS headers and padding between them."""


class FrameReader:
    """Reader of the frames of a sample. It is thread-safe, and can be forked and pickled.

    Parameters
    ----------
    files, catalog
        The shard folder, and its table of samples.
    channels
        Channel names, in the order of the tensors.
    units
        See `sdoml_core.loader.reading.units`.
    verify
        Check each frame against the CRC-32 in its index.
    """

    def __init__(
        self,
        files: RangeFiles,
        catalog: Catalog,
        channels: Sequence[str],
        *,
        units: Units,
        verify: bool,
    ):
        self.files = files
        self.catalog = catalog
        self.channels = tuple(channels)
        self.offsets = catalog.offsets(channels)
        self._owners = catalog.owners(channels)
        self.units = check_units(units, channels, catalog.constants)
        self._checksums = catalog.checksums(channels) if verify else None
        if self._checksums is not None and np.any((self._checksums < 0) & (self.offsets >= 0)):
            raise DatasetError("verify=True needs indexes, but these shards have none")
        self._header = npy_header(catalog.dtype.name, catalog.resolution)
        self._sizes = None if catalog.encoding is None else catalog.data_sizes(channels)
        self._scratch = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_scratch": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_scratch": threading.local()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a sample: channels, rows, columns."""
        return len(self.channels), self.catalog.resolution, self.catalog.resolution

    def read(self, row: int, out: NDArray[np.float32], only: Container[int] | None = None) -> None:
        """Fill an array with the frames of a sample.

        Parameters
        ----------
        row
            Row of the catalog.
        out
            C-contiguous array of `shape`. Missing frames are left unchanged.
        only
            Indices of the channels to read. Other channels are left unchanged. Defaults to all
            channels.

        Raises
        ------
        DamagedFileError
            If the shard is truncated or does not match its index. With `verify`, also if a frame
            was changed.
        """
        catalog = self.catalog
        places = self.offsets[row].tolist()
        order = sorted(
            (place, channel)
            for channel, place in enumerate(places)
            if place >= 0 and (only is None or channel in only)
        )
        if self._sizes is not None:
            for shard, mine in self._by_shard(row, order):
                self._read_compact(row, shard, mine, out)
            return
        target: NDArray[Any] = out
        if catalog.dtype != np.float32:
            target = np.empty(out.shape, catalog.dtype)
        sizes = [catalog.frame_bytes] * len(self.channels)
        for shard, mine in self._by_shard(row, order):
            for run in _runs(mine, sizes, MAX_GAP):
                self._read_run(shard, run, target)
        for _, channel in order:
            if self._checksums is not None:
                self._verify(row, channel, target[channel].data)
            if target is not out:
                _widen(target[channel], out[channel])
            convert(out[channel], self.channels[channel], self.units[channel], catalog.constants)

    def shards_of(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the positions in ``catalog.shards`` of the shards that contain the given rows."""
        if self._owners is None:
            return np.unique(self.catalog.shard[rows])
        return np.unique(self._owners[rows][self.offsets[rows] >= 0])

    def _by_shard(
        self, row: int, order: list[tuple[int, int]]
    ) -> list[tuple[int, list[tuple[int, int]]]]:
        """Group the frames (offset, channel) of a row by shard."""
        if self._owners is None:
            return [(int(self.catalog.shard[row]), order)]
        owners = self._owners[row].tolist()
        return [
            (shard, [(place, channel) for place, channel in order if owners[channel] == shard])
            for shard in sorted(set(owners))
        ]

    def _read_compact(
        self, row: int, shard: int, order: list[tuple[int, int]], out: NDArray[np.float32]
    ) -> None:
        """Read and decode compact frames."""
        assert self._sizes is not None  # noqa: S101 for the type checker
        catalog = self.catalog
        sizes = self._sizes[row].tolist()
        for run in _runs(order, sizes, MAX_COMPACT_GAP):
            first, last = run[0][0], run[-1][0] + sizes[run[-1][1]]
            memory = self._scratch_of(last - first)[: last - first]
            self.files.read_into(
                catalog.shards[shard],
                first,
                [memory],
                size=int(catalog.shard_bytes[shard]),
                tag=catalog.shard_tags[shard],
            )
            for place, channel in run:
                data = memory[place - first : place - first + sizes[channel]]
                if self._checksums is not None:
                    self._verify(row, channel, data)
                name = self.channels[channel]
                try:
                    decode_compact(data, catalog.constants[name]["step"], out[channel])
                except DamagedFileError as error:
                    raise self._damaged(row, channel, str(error)) from error
                convert(out[channel], name, self.units[channel], catalog.constants)

    def _read_run(self, shard: int, run: list[tuple[int, int]], target: NDArray[Any]) -> None:
        """Read adjacent frames and the header before each frame."""
        name, size = self.catalog.shards[shard], int(self.catalog.shard_bytes[shard])
        lead = len(self._header)
        gaps = [lead]
        gaps += [b - a - self.catalog.frame_bytes for (a, _), (b, _) in pairwise(run)]
        scratch = self._scratch_of(sum(gaps))
        buffers: list[memoryview] = []
        position = 0
        for gap, (_, channel) in zip(gaps, run, strict=True):
            buffers.append(scratch[position : position + gap])
            buffers.append(target[channel].data.cast("B"))
            position += gap
        tag = self.catalog.shard_tags[shard]
        self.files.read_into(name, run[0][0] - lead, buffers, size=size, tag=tag)
        for header, (offset, _) in zip(buffers[::2], run, strict=True):
            # Old NumPy versions wrote shorter headers, which start within the gap.
            if header[-lead:] != self._header and b"\x93NUMPY\x01\x00" not in bytes(header):
                raise DamagedFileError(
                    f"{name} in {self.files.root} does not match its index: "
                    f"no frame starts at byte {offset}"
                )

    def _scratch_of(self, size: int) -> memoryview:
        """Return this thread's buffer for headers and compact data, of at least ``size`` bytes."""
        scratch: memoryview | None = getattr(self._scratch, "memory", None)
        if scratch is None or len(scratch) < size:
            scratch = memoryview(bytearray(max(size, 32 * 1024)))
            self._scratch.memory = scratch
        return scratch

    def _verify(self, row: int, channel: int, data: memoryview) -> None:
        assert self._checksums is not None  # noqa: S101 for the type checker
        if crc32(data) != self._checksums[row, channel]:
            raise self._damaged(row, channel, "its CRC-32 does not match the index")

    def _damaged(self, row: int, channel: int, why: str) -> DamagedFileError:
        catalog = self.catalog
        shard = catalog.shard[row] if self._owners is None else self._owners[row, channel]
        return DamagedFileError(
            f"{self.channels[channel]} at {catalog.slots[row]} in {catalog.shards[shard]} "
            f"is damaged: {why}"
        )


def _widen(source: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Convert pixels to float32.

    Use PyTorch if it has been imported, because it is faster than NumPy.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        np.copyto(out, source)
    else:
        torch.from_numpy(out).copy_(torch.from_numpy(source))


def _runs(
    order: list[tuple[int, int]], sizes: Sequence[int], max_gap: int
) -> list[list[tuple[int, int]]]:
    """Group frames (offset, channel) that are adjacent in the shard.

    `sizes` contains the size of the frame of each channel in the shard.
    """
    runs: list[list[tuple[int, int]]] = []
    for place in order:
        before = runs[-1][-1] if runs else None
        if before and 0 <= place[0] - before[0] - sizes[before[1]] <= max_gap:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs
