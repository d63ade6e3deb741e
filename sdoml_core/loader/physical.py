"""Convert values to physical units and back, and compute means and standard deviations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.reading.units import physical_unit

Conversion = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Mean and standard deviation of a channel's pixels."""

    mean: float
    std: float
    frames: int
    """Number of frames that were read."""


def convert_tensor(
    tensor: torch.Tensor,
    channels: Sequence[str],
    constants: Mapping[str, Any],
    convert: Conversion,
    *,
    side: int,
) -> torch.Tensor:
    """Return a copy of a tensor with each channel converted.

    Parameters
    ----------
    tensor
        Shape (..., C, H, W).
    channels
        Names of the C channels.
    constants
        ``constant`` and ``transform`` of each channel.
    convert
        `sdoml_core.loader.reading.units.convert` or ``restore``.
    side
        Resolution of the dataset.

    Raises
    ------
    DatasetError
        If the tensor does not have these channels.
    """
    if tensor.ndim < 3 or tensor.shape[-3] != len(channels):
        raise DatasetError(
            f"expected a tensor of shape (..., {len(channels)}, H, W) for the channels "
            f"{', '.join(channels)}, but got {tuple(tensor.shape)}"
        )
    pixels = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
    frames = pixels.numpy().reshape(-1, *tensor.shape[-3:])
    for sample in frames:
        for frame, name in zip(sample, channels, strict=True):
            convert(frame, name, physical_unit(name), constants, side=side)
    return pixels.to(tensor.device)


def measure(
    read: Callable[[int, NDArray[np.float32]], None],
    rows: Sequence[int],
    channels: Sequence[str],
    shape: tuple[int, ...],
) -> dict[str, Statistics]:
    """Return the statistics of the given samples by channel. NaN pixels are left out.

    Parameters
    ----------
    read
        Fills an array with the pixels of a row.
    rows
        Rows to read.
    channels, shape
        Names of the channels, and shape (C, H, W) of a sample.
    """
    pixels = np.empty(shape, np.float32)
    sums = np.zeros((3, len(channels)))  # sums of ones, values and squares
    for row in rows:
        read(row, pixels)
        for channel, frame in enumerate(pixels.astype(np.float64)):
            known = frame[np.isfinite(frame)]
            sums[:, channel] += known.size, known.sum(), np.square(known).sum()
    mean = sums[1] / np.maximum(sums[0], 1)
    std = np.sqrt(np.maximum(sums[2] / np.maximum(sums[0], 1) - np.square(mean), 0))
    return {
        name: Statistics(float(mean[number]), float(std[number]), len(rows))
        for number, name in enumerate(channels)
    }
