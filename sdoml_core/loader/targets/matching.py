"""Match targets to samples: look up the values of several series at the times of frames."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.selection import Selection
from sdoml_core.loader.targets.series import Times, TimeSeries

NO_TARGETS: Final = (
    "Possible reasons: a series does not cover the dataset's range; a series has gaps "
    "(gaps='mask' keeps samples with gaps); or a window reaches beyond the range or into an "
    "exclusion"
)
"""Possible reasons why no sample has all targets, for messages."""


class Targets:
    """Several series that are matched to the frames of samples.

    A value is used only if all data that it depends on are in the same range of the dataset as the
    sample, and outside the exclusions. Targets therefore never use data from another part of a
    split.

    Parameters
    ----------
    series
        Series by name.
    stride
        Step between frames.

    Raises
    ------
    DatasetError
        If a series is not a `TimeSeries`.
    """

    def __init__(self, series: Mapping[str, TimeSeries], stride: np.timedelta64):
        self._series = check_targets(series)
        self._stride = stride

    def complete(
        self, anchors: Times, offsets: NDArray[np.timedelta64], selection: Selection
    ) -> NDArray[np.bool_]:
        """Return a mask of the samples that have every value required by the gap policies.

        Parameters
        ----------
        anchors
            Times of the samples, (samples,).
        offsets
            Times of the frames relative to the sample's time, (frames,).
        selection
            Ranges and exclusions of the dataset.
        """
        filled = np.ones(len(anchors), bool)
        for series in self._series.values():
            if series.gaps != "mask":
                filled &= self._at(series, anchors, offsets, selection)[1].all(axis=-1)
        return filled

    def of(
        self, anchors: Times, offsets: NDArray[np.timedelta64], selection: Selection
    ) -> dict[str, dict[str, torch.Tensor]]:
        """Return the values and masks of samples, by series name.

        Returns
        -------
        ``targets`` is float32 with NaN for missing values, and ``target_mask`` is bool. Both have
        the shape (samples, frames) for ``per="frame"`` and (samples,) for ``per="sample"``.
        """
        values: dict[str, torch.Tensor] = {}
        masks: dict[str, torch.Tensor] = {}
        for name, series in self._series.items():
            found, present = self._at(series, anchors, offsets, selection)
            if series.per == "sample":
                found, present = found[:, 0], present[:, 0]
            values[name] = torch.from_numpy(found.astype(np.float32))
            masks[name] = torch.from_numpy(np.ascontiguousarray(present))
        return {"targets": values, "target_mask": masks}

    def _at(
        self,
        series: TimeSeries,
        anchors: Times,
        offsets: NDArray[np.timedelta64],
        selection: Selection,
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the values and a mask of those that exist, both of shape (samples, frames)."""
        if series.per == "sample":
            offsets = np.zeros(1, "timedelta64[s]")
        times = anchors[:, None] + offsets
        repeated = np.broadcast_to(anchors[:, None], times.shape).ravel()
        values, present = series.at(
            times.ravel(),
            stride=self._stride,
            allowed=lambda first, last: selection.covers(repeated, first, last),
        )
        return values.reshape(times.shape), present.reshape(times.shape)


def check_targets(targets: Any) -> dict[str, TimeSeries]:
    """Check the targets and return them as a dictionary.

    Raises
    ------
    DatasetError
        If the argument is not a dictionary of series.
    """
    if not isinstance(targets, Mapping):
        raise DatasetError(
            f"targets must be a dictionary such as {{'flux': series}}, not {type(targets).__name__}"
        )
    for name, one in targets.items():
        if not isinstance(one, TimeSeries):
            raise DatasetError(f"target {name!r} must be a TimeSeries or Events, not {one!r}")
    return dict(targets)


def one_sample(batch: Mapping[str, Mapping[str, torch.Tensor]], number: int) -> dict[str, Any]:
    """Return the targets of one sample in a batch."""
    return {
        kind: {name: tensor[number] for name, tensor in tensors.items()}
        for kind, tensors in batch.items()
    }
