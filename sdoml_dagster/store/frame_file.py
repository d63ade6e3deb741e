"""Write one channel's processed frames for a day as ``.npy``, float32 (frames, n, n)."""

from typing import IO

import numpy as np
from numpy.typing import NDArray

NPY_HEADER_BYTES = 128
"""Size of the header in bytes. NumPy pads the header, so that any number of frames fits."""


def frame_file_size(frames: int, resolution: int) -> int:
    """Return the size in bytes of a file with this number of frames."""
    return NPY_HEADER_BYTES + frames * resolution * resolution * 4


class FrameWriter:
    """Writes frames of one shape into a ``.npy`` file whose length is known only at the end."""

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
        """Correct the header if fewer frames were written than expected. The file stays open."""
        if self._frames != self._expected:
            # numpy pads the header so that the first axis can change without moving the data.
            self._file.seek(0)
            self._write_header(self._frames)

    def _write_header(self, frames: int) -> None:
        shape = (frames, self._resolution, self._resolution)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
