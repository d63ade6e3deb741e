"""Event lists as targets, such as the largest solar flare or the number of flares in a window."""

import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.targets.series import Times, TimeSeries, Window
from sdoml_core.loader.targets.tables import is_missing
from sdoml_core.loader.targets.transforms import Transform
from sdoml_core.loader.times import Time, parse_ranges

_CLASS = re.compile(r"([ABCMX])(\d+(?:\.\d*)?)")
_LEVEL = {"A": 1e-8, "B": 1e-7, "C": 1e-6, "M": 1e-5, "X": 1e-4}


class Events(TimeSeries):
    """Events in a window as a target: the largest size, the number, or the sum of the sizes.

    A window within `covers` that has no events has the value 0, because it is known that no event
    occurred.

    Parameters
    ----------
    times
        Time of each event, such as the peak of a flare (UTC).
    values
        Size of each event: numbers, or GOES classes such as ``M1.2``, which are converted to the
        peak flux in W m⁻² (see `flare_flux`). Events without a time or a size (None, NaN, an empty
        string) are left out. Several events may have the same time.
    window
        Pair of offsets (start, end) relative to the time t of a sample. The window is half-open: (t
        + start, t + end]. ``(timedelta(0), timedelta(hours=24))`` is the day after t.
    reduce
        ``max``, ``count`` or ``sum``.
    covers
        First and last time for which the list is complete. Defaults to the times of the first and
        the last event. Windows that extend beyond these times are gaps. Required if there are no
        events.
    per, gaps, transform
        See `TimeSeries`. The default is one value per sample.

    Raises
    ------
    DatasetError
        If a GOES class cannot be parsed, or for the reasons given in `TimeSeries`.
    """

    def __init__(
        self,
        times: ArrayLike | Iterable[Any],
        values: ArrayLike | Iterable[str],
        *,
        window: Window,
        reduce: str = "max",
        covers: tuple[Time, Time] | None = None,
        per: str = "sample",
        gaps: str = "drop",
        max_age: timedelta | None = None,
        transform: Transform | None = None,
    ):
        if reduce not in {"max", "count", "sum"}:
            raise DatasetError(f"reduce must be one of max, count, sum, not {reduce!r}")
        items: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)  # type: ignore[arg-type]
        sizes = np.array([_size(item) for item in items], np.float64)
        self._covers = None if covers is None else _parse_covers(covers)
        super().__init__(
            times,
            sizes,
            reduce=reduce,
            window=window,
            per=per,
            gaps=gaps,
            max_age=max_age,
            transform=transform,
        )

    def _prepare(
        self, times: Times, values: NDArray[np.float64]
    ) -> tuple[Times, NDArray[np.float64]]:
        """Keep all events, including events at the same time."""
        if not len(times) and self._covers is None:
            raise DatasetError("no event has both a time and a size, so covers is required")
        return times, values

    def _over(
        self, low: NDArray[np.intp], high: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        values, some = super()._over(low, high)
        return np.where(some & np.isfinite(values), values, 0.0), np.ones_like(some)

    def _covered(self, first: Times, last: Times) -> NDArray[np.bool_]:
        start, end = (self.times[0], self.times[-1]) if self._covers is None else self._covers
        return np.logical_and(first >= start, last <= end)


def _size(value: Any) -> float:
    """Return the size of an event from a number or a class; NaN if it is missing."""
    if is_missing(value):
        return np.nan
    if isinstance(value, str):
        return flare_flux(value)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{value!r} is neither a number nor a GOES class") from error


def _parse_covers(covers: tuple[Time, Time]) -> tuple[np.datetime64, np.datetime64]:
    ((start, end),) = parse_ranges([covers], "covers")
    if start >= end:
        raise DatasetError(f"covers={covers!r} is empty: the first time must be before the last")
    return start, end


def flare_flux(goes_class: str) -> float:
    """Convert a GOES flare class to its peak flux in W m⁻²: ``M1.2`` is 1.2e-5.

    The classes A, B, C, M and X stand for 1e-8, 1e-7, 1e-6, 1e-5 and 1e-4 W m⁻² in the
    0.1–0.8 nm band (NOAA SWPC).

    Raises
    ------
    DatasetError
        If the text is not a GOES flare class.
    """
    match = _CLASS.fullmatch(goes_class.strip().upper())
    if match is None:
        raise DatasetError(f"{goes_class!r} is not a GOES class such as M1.2")
    return _LEVEL[match[1]] * float(match[2])
