"""Export for Surya (NASA-IMPACT and IBM), a foundation model of the Sun.

Its ``HelioNetCDFDataset`` reads an index (CSV), one NetCDF file per time, and the statistics of its
signum-log transform (YAML). The extra ``export`` installs the packages that this module needs.
"""

import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import h5netcdf
import yaml

from sdoml_core.errors import DatasetError
from sdoml_core.exporters.frames import physical_frames
from sdoml_core.exporters.signum_log import SignumLogStatistics
from sdoml_core.loader.dataset import SDOMLlite

INDEX: Final = "index.csv"
SCALERS: Final = "scalers.yaml"
_EPSILON, _SCALE_FACTOR = 1e-8, 1.0


def surya_name(channel: str) -> str:
    """Return Surya's name for a channel: ``aia193`` for ``AIA_0193``, ``hmi_m`` for ``HMI_M``."""
    kind, _, rest = channel.lower().partition("_")
    return f"{kind}{int(rest)}" if kind == "aia" else channel.lower()


def export_surya(
    dataset: SDOMLlite,
    folder: str | os.PathLike[str],
    statistics: Mapping[str, SignumLogStatistics],
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the samples of a dataset in the format that Surya reads.

    Parameters
    ----------
    dataset
        Dataset whose samples are written, in physical units. Each sample has all channels.
    folder
        Folder to which ``YYYY/MM/YYYYMMDD_HHMM.nc`` and, at the end, ``scalers.yaml`` and
        ``index.csv`` are written. Files from an earlier export are replaced.
    statistics
        Statistics of each channel over the training days; see `signum_log_statistics`.
    progress
        Called with one line of text per day.

    Returns
    -------
    Number of samples.

    Raises
    ------
    DatasetError
        If the statistics of a channel are missing.

    Notes
    -----
    `surya_name` gives the name of each variable. The values are float32 (y, x), in DN/s per camera
    pixel or gauss, and row 0 is in the south. ``path`` in the index is relative to the folder, so
    pass the folder as ``sdo_data_root_path``.
    """
    missing = [name for name in dataset.channels if name not in statistics]
    if missing:
        raise DatasetError(f"statistics for {SCALERS} are missing: {', '.join(missing)}")
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    rows = []
    day = ""
    for time, pixels in zip(dataset.dates, physical_frames(dataset), strict=True):
        path = f"{time:%Y/%m/%Y%m%d_%H%M}.nc"
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.part")
        facts = dataset.facts(time)
        with h5netcdf.File(partial, "w") as file:
            file.dimensions = {"y": pixels.shape[1], "x": pixels.shape[2]}
            file.attrs["slot"] = time.isoformat()
            for name, frame in zip(dataset.channels, pixels, strict=True):
                variable = file.create_variable(
                    surya_name(name), ("y", "x"), data=frame, compression="gzip", shuffle=True
                )
                variable.attrs["units"] = "DN/s" if name.startswith("AIA") else "G"
                variable.attrs["observed"] = facts[name]["observed"] or ""
        partial.replace(target)
        rows.append((path, time.isoformat(" "), 1))
        if day != f"{time:%Y-%m-%d}":
            day = f"{time:%Y-%m-%d}"
            progress(day)
    scalers = {surya_name(name): _scaler(statistics[name]) for name in dataset.channels}
    _replace(root / SCALERS, yaml.safe_dump(scalers))
    with (partial := root / f".{INDEX}.part").open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(("path", "timestep", "present"))
        writer.writerows(rows)
    partial.replace(root / INDEX)
    return len(rows)


def _scaler(statistics: SignumLogStatistics) -> dict[str, Any]:
    """Return the fields of Surya's ``StandardScaler``, with all numbers as strings."""
    return {
        "base": "surya.datasets.transformations",
        "class": "StandardScaler",
        "epsilon": str(_EPSILON),
        "is_fitted": True,
        "max": str(statistics.maximum),
        "mean": str(statistics.mean),
        "min": str(statistics.minimum),
        "sl_scale_factor": str(_SCALE_FACTOR),
        "std": str(statistics.std),
    }


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text)
    partial.replace(path)
