"""Convert frames to sunpy maps in physical units. Only this module imports sunpy."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sdoml_core.errors import DatasetError
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.loader.reading.reader import FrameReader
from sdoml_core.loader.selection import check_channels
from sdoml_core.loader.times import Time, iso
from sdoml_core.wcs import frame_header

if TYPE_CHECKING:
    from sdoml_core.loader.dataset import SDOMLlite


def sunpy_map(
    dataset: "SDOMLlite", index: int | Time, channel: str, *, hmi_scale: float = GEOMETRIC_SCALE
) -> Any:
    """Return one frame as a sunpy map; see `SDOMLlite.sunpy_map`."""
    try:
        from sunpy.map import Map
    except ImportError as error:
        raise ImportError("sunpy_map needs sunpy: pip install 'sunpy[map]'") from error
    (name,) = check_channels([channel], dataset.channels, dataset.data_dir)
    row = dataset.row_of(index)
    facts = dataset.facts(index)[name]
    if facts["observed"] is None or facts["rsun_obs"] is None:
        raise DatasetError(
            f"{name} at {iso(dataset.reader.catalog.slots[row])} has no observation time or "
            "RSUN_OBS, because its shards have no index from this project; a map needs both"
        )
    reader = FrameReader(
        dataset.reader.files,
        dataset.reader.catalog,
        [name],
        units="physical",
        verify=False,
    )
    pixels = np.empty(reader.shape, np.float32)
    reader.read(row, pixels)
    header = frame_header(
        name,
        resolution=pixels.shape[-1],
        observed=facts["observed"],
        rsun_obs=facts["rsun_obs"],
        hmi_scale=hmi_scale,
    )
    unit = {} if name.startswith("AIA") else {"BUNIT": "G"}
    exposure = {} if facts["exposure"] is None else {"EXPTIME": facts["exposure"]}
    return Map(np.ascontiguousarray(pixels[0, ::-1]), header | exposure | unit)
