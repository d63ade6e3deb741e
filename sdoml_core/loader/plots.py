"""Pictures of samples, for a first look; matplotlib is imported only here."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from sdoml_core.colormaps import colormap
from sdoml_core.loader.times import Time

if TYPE_CHECKING:
    from sdoml_core.loader.dataset import SDOMLlite


def plot_sample(
    dataset: "SDOMLlite", index: int | Time, path: str | os.PathLike[str] | None
) -> Any:
    """A row of images, one a channel, north up, each stretched over its own range.

    Parameters
    ----------
    dataset
        Its transform is not applied.
    index
        Number or time of the sample.
    path
        Where to save the picture, if anywhere.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("plot_sample needs matplotlib: pip install matplotlib") from error
    row = dataset.row_of(index)
    pixels = np.empty(dataset.reader.shape, np.float32)
    dataset.reader.read(row, pixels)
    columns = min(4, len(pixels))
    rows = -(-len(pixels) // columns)
    figure = Figure(figsize=(3 * columns, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, channel, image in zip(axes, dataset.channels, pixels, strict=False):
        low, high = np.nanquantile(image, (0.0, 0.999))
        if channel == "HMI_M" and dataset.reader.units == "normalized":
            low, high = 0.0, 1.0
        colours = ListedColormap(colormap(channel) / 255.0)
        axis.imshow(image, origin="upper", cmap=colours, vmin=low, vmax=max(high, low + 1e-6))
        axis.set_title(channel, fontsize=9)
    figure.suptitle(f"{dataset.times[np.searchsorted(dataset.rows, row)]} UTC", fontsize=10)
    if path is not None:
        figure.savefig(path)
    return figure
