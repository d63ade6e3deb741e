"""Read frames as other projects expect them: in physical units, with rows from south to north."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sdoml_core.loader.dataset import SDOMLlite
from sdoml_core.loader.reading.reader import FrameReader


def physical_frames(dataset: SDOMLlite) -> Iterator[NDArray[np.float32]]:
    """Yield the samples of a dataset in chronological order, ignoring its units and transform.

    Yields
    ------
    float32 (C, n, n). AIA is in DN/s per camera pixel (0.6″) and HMI in gauss. Pixels without
    data, such as HMI pixels off the disk, are 0. Row 0 is in the south, as in FITS files.

    Raises
    ------
    NormalizationError
        If the constants are unknown because the shards have no index from this project.
    """
    stored = dataset.reader
    reader = FrameReader(
        stored.files, stored.catalog, dataset.channels, units="physical", verify=False
    )
    for row in dataset.rows.tolist():
        pixels = np.empty(reader.shape, np.float32)
        reader.read(row, pixels)
        yield np.ascontiguousarray(np.nan_to_num(pixels, copy=False, nan=0.0)[:, ::-1])
