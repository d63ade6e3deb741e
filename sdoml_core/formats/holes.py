"""Holes: the pixels of a frame that have no data.

Shards contain only finite numbers, so a pixel without data is 0. The ``holes`` column of the frame
table and of the indexes lists these pixels as runs in the flattened frame, in ascending order. Each
run is a pair of little-endian uint32 values (start, length). The value is null if every pixel has
data.
"""

import numpy as np
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError


def encode_holes(missing: NDArray[np.bool_]) -> bytes | None:
    """Encode the pixels without data as runs.

    Parameters
    ----------
    missing
        Shape (n, n). True for pixels without data.

    Returns
    -------
    Bytes for the ``holes`` column, or None if nothing is missing.
    """
    edges = np.flatnonzero(np.diff(missing.ravel().astype(np.int8), prepend=0, append=0))
    if not edges.size:
        return None
    starts, ends = edges[0::2], edges[1::2]
    return np.stack([starts, ends - starts], axis=1).astype("<u4").tobytes()


def decode_holes(holes: bytes | None, resolution: int) -> NDArray[np.bool_]:
    """Decode runs to a mask of the pixels that have data.

    Parameters
    ----------
    holes
        Value of the column. None for a frame without holes.
    resolution
        n, pixels along each side of the frame.

    Returns
    -------
    Shape (n, n). True for pixels with data.

    Raises
    ------
    DamagedFileError
        If the runs do not fit into a frame of this size.
    """
    valid = np.ones(resolution * resolution, np.bool_)
    if holes is None:
        return valid.reshape(resolution, resolution)
    if len(holes) % 8:
        raise DamagedFileError(
            f"the `holes` value of a frame is {len(holes)} bytes long, which is not a multiple of 8"
        )
    for start, length in np.frombuffer(holes, "<u4").reshape(-1, 2).tolist():
        if start + length > valid.size:
            raise DamagedFileError(f"a hole ends beyond the frame's {valid.size} pixels")
        valid[start : start + length] = False
    return valid.reshape(resolution, resolution)
