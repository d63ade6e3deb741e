"""Time series as targets: values at arbitrary times, which are matched to frames or reduced."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from sdoml_core.errors import DatasetError
from sdoml_core.loader.targets.tables import columns, is_missing, read_csv, read_parquet
from sdoml_core.loader.targets.transforms import Transform
from sdoml_core.loader.times import inside, parse_duration, parse_time

REDUCE: Final = ("nearest", "last", "mean", "max", "min", "sum", "count")
GAPS: Final = ("drop", "mask", "hold")
PER: Final = ("frame", "sample")

Window = tuple[timedelta, timedelta]
Times = NDArray[np.datetime64]
Allowed = Callable[[Times, Times], NDArray[np.bool_]]


class HasRanges(Protocol):
    """A dataset or a part of a dataset, such as `SDOMLlite`."""

    @property
    def selection(self) -> Any:
        """Ranges and exclusions of the dataset."""


@dataclass(frozen=True, slots=True)
class Matched:
    """Values of a series at the given times, and the time intervals that they depend on."""

    values: NDArray[np.float64]
    """NaN for missing values."""

    present: NDArray[np.bool_]
    """Whether each value exists."""

    first: Times
    """Start of the interval on which each value depends (included)."""

    last: Times
    """End of the interval on which each value depends (included)."""

    def only(self, allowed: Allowed | None) -> "Matched":
        """Return a copy without the values whose intervals are not allowed."""
        if allowed is None:
            return self
        return replace(self, present=self.present & allowed(self.first, self.last))

    def filled(self, other: "Matched") -> "Matched":
        """Return a copy whose gaps are filled with the values of `other`."""
        use = ~self.present
        return Matched(
            np.where(use, other.values, self.values),
            self.present | other.present,
            np.where(use, other.first, self.first),
            np.where(use, other.last, self.last),
        )


class TimeSeries:
    """Values of a quantity at regular or irregular times.

    Parameters
    ----------
    times
        Times of the values (UTC): datetimes, ISO strings or ``datetime64``. They do not
        have to be sorted. If a time occurs more than once, its last value is used.
    values
        Numbers, one per time. NaN is treated as missing.
    reduce
        Method that computes the value at a time t. ``nearest`` uses the value nearest to t, at most
        `tolerance` away. ``last`` uses the last value at or before t, at most `tolerance` old.
        ``mean``, ``max``, ``min``, ``sum`` and ``count`` reduce the values in a window around t.
    window
        Pair of offsets (start, end) relative to t, for the five reductions. The window is
        half-open: (t + start, t + end]. Defaults to the stride before t, which is (−stride, 0].
    tolerance
        Maximum distance for ``nearest`` (defaults to half a stride) and ``last`` (defaults to one
        stride).
    per
        ``frame`` returns one value per frame of a sequence, at the time of the frame. ``sample``
        returns one value per sample, at the time of the sample.
    gaps
        With ``drop``, a sample without a value is left out. With ``mask``, the value is NaN and the
        mask is False. With ``hold``, the last value at or before t is used, at most `max_age` old.
    max_age
        Maximum age for ``hold``.
    transform
        Transform of the values that samples contain, such as ``Log10()``; see `fitted`.

    Raises
    ------
    DatasetError
        If lengths differ, values are not numbers, or arguments are incompatible.
    """

    def __init__(
        self,
        times: ArrayLike | Iterable[Any],
        values: ArrayLike,
        *,
        reduce: str = "nearest",
        window: Window | None = None,
        tolerance: timedelta | None = None,
        per: str = "frame",
        gaps: str = "drop",
        max_age: timedelta | None = None,
        transform: Transform | None = None,
    ):
        for name, value, known in (
            ("reduce", reduce, REDUCE),
            ("gaps", gaps, GAPS),
            ("per", per, PER),
        ):
            if value not in known:
                raise DatasetError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        windowed = reduce not in {"nearest", "last"}
        if windowed and tolerance is not None:
            raise DatasetError(f"tolerance cannot be used with reduce={reduce!r}: use window")
        if not windowed and window is not None:
            raise DatasetError(f"window cannot be used with reduce={reduce!r}: use tolerance")
        if (gaps == "hold") != (max_age is not None):
            raise DatasetError("max_age requires gaps='hold', and gaps='hold' requires max_age")
        self.reduce = reduce
        self.per = per
        self.gaps = gaps
        self.transform = transform
        if transform is not None and not hasattr(transform, "inverse"):
            raise DatasetError(
                f"transform must be invertible, like Log10(), but {transform!r} has no inverse"
            )
        self._window = None if window is None else _parse_window(window)
        self._tolerance = _parse_limit(tolerance, "tolerance")
        self._max_age = _parse_limit(max_age, "max_age")
        self.times, self.values = self._prepare(*_sorted(times, values))

    def _prepare(
        self, times: Times, values: NDArray[np.float64]
    ) -> tuple[Times, NDArray[np.float64]]:
        """Return one value per time. If times are equal, the last value is used."""
        if not len(times):
            raise DatasetError("the series has no finite values")
        final = np.append(times[1:] != times[:-1], True)
        return times[final], values[final]

    @classmethod
    def from_arrow(
        cls,
        table: pa.Table,
        *,
        time: str,
        value: str,
        where: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Create a series from two columns of an Arrow table.

        Parameters
        ----------
        table
            One row per time, or several rows per time in long form.
        time, value
            Names of the columns.
        where
            Values of other columns that select the rows, for tables in long form:
            ``{"energy": "0.1-0.8nm"}``.
        options
            Other arguments of the class.

        Raises
        ------
        DatasetError
            If a column does not exist, or no row is selected.
        """
        times, values = columns(table, (time, value), where or {})
        return cls(times, values, **options)

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Create a series from a CSV file with a header; see `from_arrow`."""
        return cls.from_arrow(read_csv(path), **options)

    @classmethod
    def from_parquet(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Create a series from a Parquet file; see `from_arrow`."""
        return cls.from_arrow(read_parquet(path), **options)

    @classmethod
    def from_pandas(cls, series: Any, **options: Any) -> Self:
        """Create a series from a ``pandas.Series`` whose index contains the times."""
        index: Any = getattr(series, "index", None)
        if not hasattr(index, "dtype") or not hasattr(series, "dtype"):
            raise DatasetError(
                f"from_pandas needs a pandas.Series whose index contains the times, not "
                f"{type(series).__name__}: select a column of a DataFrame first"
            )
        if getattr(index, "tz", None) is not None:
            index = index.tz_convert("UTC").tz_localize(None)
        # Values may also be strings, such as flare classes.
        numbers = getattr(series.dtype, "kind", "O") in "biuf"
        values = np.asarray(series, np.float64) if numbers else np.asarray(series)
        return cls(np.asarray(index), values, **options)

    def fitted(self, dataset: HasRanges) -> Self:
        """Return a copy whose transform is fitted to the values within a training dataset.

        Values outside the ranges of the dataset, or within its exclusions, are not used.

        Raises
        ------
        DatasetError
            If the series has no transform, or no values within the range of the dataset.
        """
        if self.transform is None:
            raise DatasetError("this series has no transform to fit")
        selection = getattr(dataset, "selection", None)
        if selection is None:
            raise DatasetError(
                f"fitted() needs an SDOMLlite, one of its splits or SDOMLliteSequences, not "
                f"{type(dataset).__name__}"
            )
        used = inside(self.times, selection.ranges) & ~inside(self.times, selection.exclusions)
        if not used.any():
            raise DatasetError("the series has no values within the range of the dataset")
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.transform = self.transform.fit(self.values[used])
        return copy

    def inverse(self, values: Any) -> NDArray[np.float64]:
        """Undo the transform, for example to convert predictions back to the unit of the series."""
        if hasattr(values, "detach"):  # a tensor, perhaps on a GPU or with a gradient
            values = values.detach().cpu().double()
        array = np.asarray(values, np.float64)
        return array if self.transform is None else self.transform.inverse(array)

    def at(
        self, times: Times, *, stride: np.timedelta64, allowed: Allowed | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the transformed values at the given times, and a mask of those that exist.

        Parameters
        ----------
        times
            One-dimensional datetime64 array.
        stride
            Step between frames, for the defaults of window and tolerance.
        allowed
            Called with the first and last times of the intervals that the values depend on. It
            returns a mask of the intervals that may be used. By default, all may be used.

        Returns
        -------
        values
            float64, with NaN for missing values.
        present
            Whether each value exists.
        """
        flat = times.astype("datetime64[ms]")
        found = self._reduced(flat, stride).only(allowed)
        if self._max_age is not None:
            found = found.filled(self._single(flat, self._last(flat), self._max_age).only(allowed))
        values = found.values
        if self.transform is not None:
            values = self.transform.forward(np.nan_to_num(values))
        return np.where(found.present, values, np.nan), found.present

    def _reduced(self, times: Times, stride: np.timedelta64) -> Matched:
        if self.reduce == "nearest":
            limit = stride / 2 if self._tolerance is None else self._tolerance
            return self._single(times, self._nearest(times), limit)
        if self.reduce == "last":
            limit = stride if self._tolerance is None else self._tolerance
            return self._single(times, self._last(times), limit)
        start, end = (-stride, np.timedelta64(0, "s")) if self._window is None else self._window
        first, last = times + start, times + end
        low = np.searchsorted(self.times, first, side="right")
        high = np.searchsorted(self.times, last, side="right")
        values, present = self._over(low, high)
        return Matched(values, present & self._covered(first, last), first, last)

    def _over(
        self, low: NDArray[np.intp], high: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Reduce the values from index ``low`` to ``high``, and return whether there are any."""
        counts = (high - low).astype(np.float64)
        some = counts > 0
        if self.reduce == "count":
            return counts, np.ones_like(some)
        values = np.full(len(counts), np.nan)
        if some.any():
            padded = np.append(self.values, np.nan)
            pairs = np.stack([low[some], high[some]], axis=1).ravel()
            ufunc = {"max": np.maximum, "min": np.minimum}.get(self.reduce, np.add)
            reduced = ufunc.reduceat(padded, pairs)[::2]
            values[some] = reduced / counts[some] if self.reduce == "mean" else reduced
        return values, some

    def _covered(self, first: Times, last: Times) -> NDArray[np.bool_]:
        """Return whether the series covers the intervals.

        Only ``reduce="count"`` needs this check.
        """
        # An empty window between the first and last value has the count 0.
        if self.reduce == "count":
            covered: NDArray[np.bool_] = (first >= self.times[0]) & (last <= self.times[-1])
            return covered
        return np.ones(first.shape, np.bool_)

    def _single(self, times: Times, rows: NDArray[np.intp], limit: np.timedelta64) -> Matched:
        """Return the values of the given rows, if they are within ``limit`` of the times.

        Negative rows have no value.
        """
        if not len(self.times):  # a list without events
            return Matched(np.full(len(times), np.nan), np.zeros(len(times), bool), times, times)
        matched = self.times[rows]
        present = (rows >= 0) & (np.abs(times - matched) <= limit)
        values = np.where(present, self.values[rows], np.nan)
        used = np.where(present, matched, times)
        return Matched(values, present, np.minimum(used, times), np.maximum(used, times))

    def _last(self, times: Times) -> NDArray[np.intp]:
        return np.searchsorted(self.times, times, side="right") - 1

    def _nearest(self, times: Times) -> NDArray[np.intp]:
        after = np.searchsorted(self.times, times).clip(0, len(self.times) - 1)
        before = np.maximum(after - 1, 0)
        closer = np.abs(times - self.times[before]) <= np.abs(self.times[after] - times)
        return np.where(closer, before, after)


def _parse_times(times: Any) -> Times:
    if getattr(getattr(times, "dtype", None), "kind", "") == "M" and not hasattr(times.dtype, "tz"):
        return np.asarray(times).astype("datetime64[ms]")
    items = times.to_pylist() if isinstance(times, pa.Array | pa.ChunkedArray) else list(times)
    missing = np.datetime64("NaT", "ms")
    parsed = [
        missing if is_missing(time) else parse_time(time, "series time", unit="ms")
        for time in items
    ]
    return np.array(parsed, "datetime64[ms]")


def _parse_values(values: ArrayLike) -> NDArray[np.float64]:
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":  # NumPy would only warn
        raise DatasetError("the values of a series must be real numbers, but they are complex")
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: tensors with gradients
        raise DatasetError(f"the values of a series must be numbers: {error}") from error


def _sorted(
    given_times: ArrayLike | Iterable[Any], given_values: ArrayLike
) -> tuple[Times, NDArray[np.float64]]:
    """Return times and values sorted by time, without missing times or non-finite values."""
    times, values = _parse_times(given_times), _parse_values(given_values)
    if times.shape != values.shape or times.ndim != 1:
        raise DatasetError(
            f"a series needs one value per time, but times have the shape {times.shape} and values "
            f"have the shape {values.shape}"
        )
    keep = np.isfinite(values) & ~np.isnat(times)
    times, values = times[keep], values[keep]
    order = np.argsort(times, kind="stable")
    return times[order], values[order]


def _parse_limit(duration: timedelta | None, what: str) -> np.timedelta64 | None:
    """Convert a duration, which must not be negative. None stays None."""
    if duration is None:
        return None
    limit = parse_duration(duration, what)
    if limit < np.timedelta64(0, "s"):
        raise DatasetError(f"{what} must not be negative, but is {duration!r}")
    return limit


def _parse_window(window: Sequence[timedelta]) -> tuple[np.timedelta64, np.timedelta64]:
    if not isinstance(window, Sequence) or isinstance(window, str) or len(window) != 2:
        raise DatasetError(f"window must be a pair of timedeltas (start, end), not {window!r}")
    start, end = (parse_duration(offset, "window") for offset in window)
    if start >= end:
        raise DatasetError(f"window={window!r} is empty: start must be before end")
    return start, end
