"""Export as zarr in the layout of SDOML v2, which SDO-FM reads.

Each year is a group with one array per channel, of shape (frames, n, n). Every attribute of an
array is a list with one entry per frame: ``T_OBS`` and the cards of `sdoml_core.wcs.frame_header`.
The extra ``export`` installs the packages that this module needs.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import erfa
import numpy as np
import zarr

from sdoml_core.errors import DatasetError
from sdoml_core.exporters.frames import physical_frames
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.loader.dataset import SDOMLlite
from sdoml_core.wcs import frame_header

AIA_STORE: Final = "aia.zarr"
HMI_STORE: Final = "hmi.zarr"


def zarr_name(channel: str) -> str:
    """Return the name of an array: ``193A`` for ``AIA_0193``, ``M`` for ``HMI_M``."""
    kind, _, rest = channel.partition("_")
    return f"{int(rest)}A" if kind == "AIA" else rest


def export_zarr(
    dataset: SDOMLlite,
    folder: str | os.PathLike[str],
    *,
    hmi_scale: float = GEOMETRIC_SCALE,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the frames of one channel as zarr arrays, one per year.

    Parameters
    ----------
    dataset
        Dataset with one channel. Its frames are written in physical units.
    folder
        Folder in which ``aia.zarr`` or ``hmi.zarr`` is created, in zarr format 2, which versions 2
        and 3 of the zarr package can read. Arrays from an earlier export are replaced.
    hmi_scale
        Scale with which HMI frames were processed, if ``SDOML_HMI_SCALE`` was a number.
    progress
        Called with one line of text per year.

    Returns
    -------
    Number of frames.

    Raises
    ------
    DatasetError
        If the dataset has several channels. Their frames have different times, so each channel
        needs a separate export.

    Notes
    -----
    Row 0 is in the south. AIA is in DN/s per camera pixel (0.6″). HMI is in gauss, and 0 off the
    disk. SDOML v2 itself contains the three components of the magnetic field. In this export, the
    array ``M`` contains the line-of-sight field.
    """
    if len(dataset.channels) != 1:
        raise DatasetError(
            f"a zarr export can contain only one channel, not {', '.join(dataset.channels)}"
        )
    (channel,) = dataset.channels
    store = AIA_STORE if channel.startswith("AIA") else HMI_STORE
    root = zarr.open_group(Path(folder, store), mode="a", zarr_format=2)
    years = dataset.times.astype("datetime64[Y]")
    frames = zip(dataset.dates, physical_frames(dataset), strict=True)
    for year in np.unique(years):
        count = int((years == year).sum())
        side = dataset.reader.shape[-1]
        progress(f"{channel} {year}: {count} frames")
        array = root.require_group(str(year)).create_array(
            zarr_name(channel),
            shape=(count, side, side),
            chunks=(1, side, side),
            dtype="float32",
            overwrite=True,
        )
        cards: dict[str, Any] = {}
        for number in range(count):
            time, pixels = next(frames)
            array[number] = pixels[0]
            header = _header(dataset, time, hmi_scale)
            for card, value in header.items():
                cards.setdefault(card, []).append(value)
        array.attrs.put(cards)
    return len(dataset)


def _header(dataset: SDOMLlite, time: datetime, hmi_scale: float) -> dict[str, Any]:
    """Return the FITS cards of one frame."""
    (channel,) = dataset.channels
    facts = dataset.facts(time)[channel]
    if facts["observed"] is None or facts["rsun_obs"] is None:
        raise DatasetError(
            f"{channel} at {time.isoformat()} has no observation time or RSUN_OBS, because its "
            "shards have no index from this project; a zarr export needs both"
        )
    observed = datetime.fromisoformat(facts["observed"])
    header: dict[str, Any] = frame_header(
        channel,
        resolution=dataset.reader.shape[-1],
        observed=observed,
        rsun_obs=facts["rsun_obs"],
        hmi_scale=hmi_scale,
    )
    if channel.startswith("AIA"):
        header["T_OBS"] = f"{observed.isoformat(timespec='milliseconds')}Z"
        header["EXPTIME"] = facts["exposure"]
    else:
        header["T_OBS"] = _tai(observed)
        header["BUNIT"] = "G"
    header["QUALITY"] = facts["quality"]
    return header


def _tai(time: datetime) -> str:
    """Format a UTC time like ``T_OBS`` of JSOC's HMI files: ``2024.03.08_12:00:00_TAI``."""
    offset = float(erfa.dat(time.year, time.month, time.day, 0.0))
    return f"{time + timedelta(seconds=offset):%Y.%m.%d_%H:%M:%S}_TAI"
