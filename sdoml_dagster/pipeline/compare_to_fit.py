"""Compare a day with the constants, using only the day's sketches."""

from dataclasses import dataclass
from datetime import date

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.sketch import Sketch
from sdoml_dagster.pipeline.frozen_constants import needed_normalization
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

DISK_MEDIAN = "0.75"
"""Quantile of all pixels that equals the median of the disk. The disk covers half of the frame
(π · 0.397² of its area), and nearly all of the disk is brighter than the sky. The median of all
pixels would be a pixel value at the limb, so it would depend on the size of the disk."""


@dataclass(frozen=True, slots=True)
class ChannelDay:
    """Saturation and disk median of one channel, on one day and in the fit."""

    saturated: float
    """Fraction of the day's pixels that exceed the constant and are mapped to 1."""

    fitted_saturated: float
    """The same fraction for all pixels in the fit."""

    median: float
    """Median of the disk, in the units of processed frames."""

    fitted_median: float
    """Median of the disk in the fit."""

    @property
    def drift(self) -> float:
        """Ratio of the disk's median on this day to its median in the fit."""
        return self.median / self.fitted_median if self.fitted_median > 0 else 1.0


def saturated_fractions(store: Store, day: date, settings: Settings) -> dict[str, float]:
    """Return the fraction of each channel's pixels that the current constants clip."""
    return {name: channel.saturated for name, channel in compare_day(store, day, settings).items()}


def compare_day(store: Store, day: date, settings: Settings) -> dict[str, ChannelDay]:
    """Compare each channel that has a constant and has frames on this day."""
    constants = needed_normalization(store)
    return {
        name: compared
        for instrument in INSTRUMENTS
        if settings.channels_of(instrument)
        for name, sketch in StoredDay(store, day).sketches(instrument).items()
        if name in settings.channels
        and (compared := compare_sketch(sketch, constants, name)) is not None
    }


def compare_sketch(sketch: Sketch, constants: Normalization, name: str) -> ChannelDay | None:
    """Compare one channel with the constants. Return None if it has no constant or no frames."""
    fitted = constants.channels.get(name)
    if fitted is None or fitted.constant is None or not sketch.pixels:
        return None
    return ChannelDay(
        saturated=sketch.fraction_above(fitted.constant),
        fitted_saturated=fitted.saturated or 0.0,
        median=sketch.quantile(float(DISK_MEDIAN)),
        fitted_median=(fitted.quantiles or {}).get(DISK_MEDIAN, 0.0),
    )
