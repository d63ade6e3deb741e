"""Plots of samples. Only this module imports matplotlib."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdoml_core.colormaps import colormap


def plot_images(
    images: Mapping[str, NDArray[np.float32]],
    *,
    title: str,
    normalized: bool,
    path: str | os.PathLike[str] | None,
) -> Any:
    """Plot one image per channel, with north up and a separate color range for each image.

    Parameters
    ----------
    images
        Images of shape (n, n), by channel.
    title
        Title of the figure.
    normalized
        Whether HMI values are gray levels, which are drawn on a scale from 0 to 1.
    path
        File to save the figure to. With None, the figure is not saved.

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
    except ImportError:
        raise ImportError("plot_sample needs matplotlib: pip install matplotlib") from None
    columns = min(4, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(3 * columns, 3.3 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (channel, image) in zip(axes, images.items(), strict=False):
        low, high = np.nanquantile(image, (0.0, 0.999))
        if channel == "HMI_M" and normalized:
            low, high = 0.0, 1.0
        colors = ListedColormap(colormap(channel) / 255.0)
        axis.imshow(image, origin="upper", cmap=colors, vmin=low, vmax=max(high, low + 1e-6))
        axis.set_title(channel, fontsize=9)
    figure.suptitle(title, fontsize=10)
    if path is not None:
        figure.savefig(path)
    return figure
