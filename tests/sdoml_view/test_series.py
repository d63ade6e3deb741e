"""Time series that users add from common table formats."""

import io

import numpy as np
import pandas as pd
import pytest

from sdoml_core.errors import DatasetError
from sdoml_view.series import MAX_POINTS, parse_series

GOES = """time_tag,satellite,flux,energy
2024-03-08 00:00:00+00:00,18,1e-8,0.05-0.4nm
2024-03-08 00:00:00+00:00,18,1e-6,0.1-0.8nm
2024-03-08 00:01:00+00:00,18,2e-8,0.05-0.4nm
2024-03-08 00:01:00+00:00,18,5e-5,0.1-0.8nm
"""


def test_goes_table_has_one_series_per_band() -> None:
    short, long = parse_series(GOES.encode(), "goes.csv")
    assert short.name == "flux 0.05-0.4nm · goes.csv"
    assert long.values.tolist() == [1e-6, 5e-5]
    assert long.times.tolist() == [1709856000, 1709856060]


def test_series_from_parquet_has_utc_times_and_skips_gaps() -> None:
    times = pd.date_range("2024-03-08", periods=3, freq="1h", tz="Europe/Berlin")
    buffer = io.BytesIO()
    pd.DataFrame({"when": times, "index": [1.0, np.nan, 3.0]}).to_parquet(buffer)
    (series,) = parse_series(buffer.getvalue(), "kp.parquet")
    assert series.times[0] == 1709856000 - 3600
    assert series.values.tolist() == [1.0, 3.0]


def test_long_series_keep_their_peaks() -> None:
    times = pd.date_range("2024-01-01", periods=4 * MAX_POINTS, freq="1s")
    values = np.ones(len(times))
    values[123_457] = 9.0
    buffer = io.BytesIO()
    pd.DataFrame({"t": times, "v": values}).to_parquet(buffer)
    (series,) = parse_series(buffer.getvalue(), "x")
    assert len(series.values) <= MAX_POINTS
    assert series.values.max() == 9.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1 and no more", "cannot read x"),
        (b"a,b\n1,2\n2,3\n", "no time column"),
        (b"time,name\n2024-03-08,a\n2024-03-09,b\n", "no numeric column"),
        (b"", "cannot read x"),
        (b"time,v,v\n2024-03-08,1,2\n2024-03-09,2,1\n", "several columns named v"),
    ],
)
def test_invalid_tables_get_an_error_message(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_series(data, "x")
