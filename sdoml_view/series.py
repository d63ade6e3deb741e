"""The user's time series, such as GOES X-ray flux, from columns of a CSV or Parquet table."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError, DatasetError
from sdoml_core.formats.parquet import arrow_file, open_parquet, read_columns
from sdoml_core.loader.times import parse_time

MAX_SERIES: Final = 12
MAX_GROUPS: Final = 8
"""Maximum number of values in a text column that distinguishes series, such as energy bands."""

MAX_POINTS: Final = 50_000
"""Longer series are thinned out: each step keeps its lowest and highest value."""


@dataclass(frozen=True)
class UserSeries:
    """A quantity over time."""

    name: str
    times: NDArray[np.int64]
    """Seconds since 1970."""
    values: NDArray[np.float64]

    def to_json(self) -> dict[str, Any]:
        """Return the series for the browser."""
        return {
            "name": self.name,
            "times": self.times.tolist(),
            "values": [None if np.isnan(v) else v for v in self.values.tolist()],
        }


def read_series_file(path: Path) -> list[UserSeries]:
    """Read all series in a file; see `parse_series`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}") from error
    return parse_series(data, path.name)


def parse_series(data: bytes, name: str) -> list[UserSeries]:
    """Read all series in a table.

    The first column with times (or ISO strings) is the time axis. Each numeric column is a series.
    If a text column has only a few different values, such as the energy band in a GOES table, there
    is one series for each value.

    Parameters
    ----------
    data
        Bytes of a Parquet file or of a CSV file with a header.
    name
        Name of the file, for messages and labels.

    Raises
    ------
    DatasetError
        If the table cannot be read, or lacks times or numbers.
    """
    # Imported here, because these modules would delay the first picture.
    import pyarrow.compute as pc
    from pyarrow import csv

    from sdoml_core.loader.targets.series import TimeSeries

    try:
        if data[:4] == b"PAR1":
            table = read_columns(open_parquet(data))
        else:
            table = csv.read_csv(arrow_file(data))
    except (pa.ArrowException, DamagedFileError, OSError, ValueError) as error:
        raise DatasetError(f"cannot read {name} as CSV or Parquet: {error}") from error
    repeated = [field for field, count in Counter(table.column_names).items() if count > 1]
    if repeated:
        raise DatasetError(f"{name} has several columns named {', '.join(repeated)}; rename them")
    time = _time_column(table, name)
    numeric = [
        field.name
        for field in table.schema
        if field.name != time
        and (pa.types.is_floating(field.type) or pa.types.is_integer(field.type))
        and pc.count_distinct(table[field.name]).as_py() > 1
    ]
    if not numeric:
        raise DatasetError(f"{name} has no numeric column that changes over time")
    series = []
    for value in numeric:
        for where in _groups(table, time):
            label = " ".join([value, *map(str, where.values())])
            found = TimeSeries.from_arrow(table, time=time, value=value, where=where)
            times, values = _thinned(found.times.astype("datetime64[s]"), found.values)
            series.append(UserSeries(f"{label} · {name}", times, values))
    return series[:MAX_SERIES]


def _time_column(table: pa.Table, name: str) -> str:
    for field in table.schema:
        if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type):
            return str(field.name)
    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            some = table[field.name].drop_null().slice(0, 20)
            try:
                for text in some.to_pylist():
                    parse_time(text)
            except DatasetError:
                continue
            if len(some):
                return str(field.name)
    raise DatasetError(f"{name} has no time column; write times as 2024-03-08T12:00:00")


def _groups(table: pa.Table, time: str) -> list[dict[str, Any]]:
    """Return the values of a text column that distinguishes series.

    One empty condition if none does.
    """
    for field in table.schema:
        if field.name == time or not pa.types.is_string(field.type):
            continue
        values = table[field.name].unique().drop_null().to_pylist()
        if 1 < len(values) <= MAX_GROUPS:
            return [{field.name: value} for value in sorted(values)]
    return [{}]


def _thinned(
    times: NDArray[np.datetime64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    seconds = times.astype(np.int64)
    if len(values) <= MAX_POINTS:
        return seconds, values
    steps = MAX_POINTS // 2
    edges = np.linspace(0, len(values), steps + 1).astype(int)[:-1]
    filled = np.where(np.isnan(values), -np.inf, values)
    high = np.maximum.reduceat(filled, edges)
    low = np.minimum.reduceat(np.where(np.isnan(values), np.inf, values), edges)
    pairs = np.stack([low, high], axis=1).ravel()
    return np.repeat(seconds[edges], 2), np.where(np.isfinite(pairs), pairs, np.nan)
