"""Training targets for the images: time series, event lists, and invertible transforms."""

from sdoml_core.loader.targets.events import Events, flare_flux
from sdoml_core.loader.targets.series import TimeSeries
from sdoml_core.loader.targets.transforms import Log10, Standardize, Transform

__all__ = ["Events", "Log10", "Standardize", "TimeSeries", "Transform", "flare_flux"]
