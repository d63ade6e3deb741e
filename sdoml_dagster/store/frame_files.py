"""Processed frames in the store: one ``.npy`` per day and channel."""

from datetime import date
from typing import IO

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.ledger import FrameRow
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

NPY_HEADER_BYTES = 128
"""Header of the ``.npy`` files written here: numpy pads it, so that any number of frames fits."""


def read_frame(store: Store, day: date, row: FrameRow, *, resolution: int) -> NDArray[np.float32]:
    """One processed frame, float32 (n, n), checked against its row of the frame table.

    Raises
    ------
    DamagedFileError
        Where the file does not hold what the table says.
    """
    path = layout.processed_frames(day, CHANNELS[row.channel])
    size = resolution * resolution * 4
    start = NPY_HEADER_BYTES + (row.row or 0) * size
    data = store.read_range(path, start, start + size)
    if len(data) != size or crc32(data) != row.crc32:
        raise DamagedFileError(
            f"{store.locate(path)} does not hold the {resolution}×{resolution} frame {row.row} "
            f"of its frame table (damaged, or made at another resolution): materialise the "
            f"processed assets of {day} again"
        )
    return np.frombuffer(data, "<f4").reshape(resolution, resolution)


class FrameWriter:
    """Writes frames of one shape into a ``.npy`` whose length is known only at its end."""

    def __init__(self, file: IO[bytes], resolution: int, *, frames: int) -> None:
        self._file = file
        self._resolution = resolution
        self._expected = frames
        self._frames = 0
        self._write_header(frames)

    def append(self, pixels: NDArray[np.float32]) -> int:
        """Write a frame and return its index."""
        self._file.write(pixels.astype("<f4", copy=False).data)
        self._frames += 1
        return self._frames - 1

    def close(self) -> None:
        """Correct the header where frames were rejected on the way; the file stays open."""
        if self._frames != self._expected:
            # numpy pads the header so that the first axis can change without moving the data.
            self._file.seek(0)
            self._write_header(self._frames)

    def _write_header(self, frames: int) -> None:
        shape = (frames, self._resolution, self._resolution)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
