"""Read target columns from CSV, Parquet or Arrow tables, in wide or long form."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sdoml_core.errors import DatasetError


def read_csv(path: str | os.PathLike[str]) -> pa.Table:
    """Read a CSV file with a header.

    Raises
    ------
    DatasetError
        If the file does not exist or is not a CSV table.
    """
    from pyarrow import csv

    try:
        return csv.read_csv(os.fspath(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"cannot read {os.fspath(path)} as CSV: {error}") from error


def read_parquet(path: str | os.PathLike[str]) -> pa.Table:
    """Read a Parquet file.

    Raises
    ------
    DatasetError
        If the file does not exist or is not Parquet.
    """
    import pyarrow.parquet as pq

    try:
        return pq.read_table(os.fspath(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetError(f"cannot read {os.fspath(path)} as Parquet: {error}") from error


def columns(
    table: pa.Table, names: Sequence[str], where: Mapping[str, Any]
) -> tuple[NDArray[Any], ...]:
    """Return columns as NumPy arrays, for the rows with the given values in other columns.

    Times are converted to UTC and lose their time zone.

    Raises
    ------
    DatasetError
        If a column does not exist, or no row matches.
    """
    for name in (*names, *where):
        if table.column_names.count(name) != 1:
            number = "several columns" if name in table.column_names else "no column"
            raise DatasetError(
                f"the table has {number} named {name!r}; its columns are "
                f"{', '.join(table.column_names)}"
            )
    for name, value in where.items():
        column = _decoded(table[name])
        try:
            wanted = pa.scalar(value, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError) as error:
            raise DatasetError(
                f"where={dict(where)}: column {name!r} has type {column.type}, which "
                f"does not match {value!r}"
            ) from error
        table = table.filter(pc.equal(column, wanted))
    if not table.num_rows:
        raise DatasetError(
            f"the table has no rows with {dict(where)}" if where else "the table is empty"
        )
    return tuple(_to_numpy(table[name]) for name in names)


def is_missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, NaT, pandas.NA or an empty string."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or str(value) in {"nan", "NaT", "<NA>"}


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary encoding, which pandas uses for categories."""
    if pa.types.is_dictionary(column.type):
        return column.cast(column.type.value_type)
    return column


def _to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    column = _decoded(column)  # NumPy would use the last category for null
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms"), safe=False)
    elif pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    return np.asarray(column.to_numpy())
