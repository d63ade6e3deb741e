"""Time series as targets: reductions, gaps and transforms, compared with direct computations."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdoml_core.errors import DatasetError
from sdoml_core.loader.targets import Events, Log10, Standardize, TimeSeries, flare_flux

START = np.datetime64("2024-03-01T00:00:00")
STRIDE = np.timedelta64(900, "s")
MINUTE = timedelta(minutes=1)

FLUX = """\
time_tag,satellite,flux,energy
2024-03-01 00:00:00+00:00,18,1e-8,0.05-0.4nm
2024-03-01 00:00:00+00:00,18,1e-6,0.1-0.8nm
2024-03-01 00:01:00+00:00,18,2e-8,0.05-0.4nm
2024-03-01 00:01:00+00:00,18,2e-6,0.1-0.8nm
"""


def minutes(*values: float) -> np.ndarray:
    return START + (np.array(values) * 60).astype("timedelta64[s]")


def values_at(series: TimeSeries, *at: float) -> list[float | None]:
    values, present = series.at(minutes(*at), stride=STRIDE)
    assert np.isnan(values[~present]).all()
    return [value if here else None for value, here in zip(values.tolist(), present, strict=True)]


def test_nearest_uses_the_closest_value_within_the_tolerance() -> None:
    series = TimeSeries(minutes(0, 10, 30), [1.0, 2.0, 3.0], tolerance=5 * MINUTE)
    assert values_at(series, -5, -6, 4, 5, 6, 14, 16, 25, 40) == [
        1,
        None,
        1,
        1,
        2,
        2,
        None,
        3,
        None,
    ]


def test_last_reduction_never_uses_future_values() -> None:
    series = TimeSeries(minutes(0, 10), [1.0, 2.0], reduce="last", tolerance=15 * MINUTE)
    assert values_at(series, -1, 0, 9, 10, 25, 26) == [None, 1, 1, 2, 2, None]


@pytest.mark.parametrize("reduce", ["mean", "max", "min", "sum", "count"])
@given(
    times=st.lists(st.integers(0, 60), min_size=1, max_size=30),
    asked=st.lists(st.integers(-20, 80), min_size=1, max_size=10),
    start=st.integers(-30, 20),
    length=st.integers(1, 30),
)
def test_window_reductions_match_a_direct_computation(
    reduce: str, times: list[int], asked: list[int], start: int, length: int
) -> None:
    unique = sorted(set(times))
    numbers = np.arange(1.0, len(unique) + 1)
    end = start + length
    series = TimeSeries(
        minutes(*unique), numbers, reduce=reduce, window=(start * MINUTE, end * MINUTE)
    )
    expected: list[float | None] = []
    for at in asked:
        inside = [n for t, n in zip(unique, numbers, strict=True) if at + start < t <= at + end]
        if reduce == "count":
            covered = unique[0] <= at + start and at + end <= unique[-1]
            expected.append(len(inside) if covered else None)
        else:
            expected.append(getattr(np, reduce)(inside) if inside else None)
    assert values_at(series, *asked) == pytest.approx(expected)


def test_default_window_is_the_previous_step() -> None:
    series = TimeSeries(minutes(0, 5, 15), [1.0, 3.0, 100.0], reduce="mean")
    assert values_at(series, 0, 14, 15, 30) == [1, 2, 51.5, None]


def test_hold_fills_gaps_up_to_a_maximum_age() -> None:
    series = TimeSeries(
        minutes(0, 60), [1.0, 2.0], tolerance=MINUTE, gaps="hold", max_age=20 * MINUTE
    )
    assert values_at(series, 0, 20, 21, 59, 60, 80) == [1, 1, None, 2, 2, 2]


def test_values_that_depend_on_excluded_times_are_not_used() -> None:
    series = TimeSeries(minutes(0, 10), [1.0, 2.0], gaps="hold", max_age=30 * MINUTE)

    def before_ten(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        return last < minutes(10)

    times = minutes(8, 9, 10)
    values, present = series.at(times, stride=STRIDE, allowed=before_ten)
    # At 8 and 9 minutes, the nearest value is at 10, in the future. The value at 0 is held instead.
    assert values[:2].tolist() == [1, 1]
    assert present.tolist() == [True, True, False]


def test_nonfinite_values_are_dropped_and_the_last_duplicate_wins() -> None:
    series = TimeSeries(minutes(10, 0, 10, 20), [1.0, 5.0, 2.0, np.nan])
    assert series.times.tolist() == minutes(0, 10).astype("datetime64[ms]").tolist()
    assert series.values.tolist() == [5.0, 2.0]


def test_times_may_be_datetimes_strings_or_arrow() -> None:
    aware = [datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, 0, 10, tzinfo=UTC)]
    text = ["2024-03-01T00:00:00Z", "2024-03-01T01:10:00+01:00"]
    for times in (aware, text, pa.array(aware), minutes(0, 10)):
        assert TimeSeries(times, [1, 2]).times.tolist() == minutes(0, 10).astype("M8[ms]").tolist()


def test_long_tables_are_filtered(tmp_path) -> None:
    path = tmp_path / "goes.csv"
    path.write_text(FLUX)
    options = {"time": "time_tag", "value": "flux", "where": {"energy": "0.1-0.8nm"}}
    assert TimeSeries.from_csv(path, **options).values.tolist() == [1e-6, 2e-6]
    from pyarrow import csv

    pq.write_table(csv.read_csv(path), tmp_path / "goes.parquet")
    assert TimeSeries.from_parquet(tmp_path / "goes.parquet", **options).values.tolist() == [
        1e-6,
        2e-6,
    ]
    with pytest.raises(DatasetError, match=r"no rows with \{'energy': 'x'\}"):
        TimeSeries.from_csv(path, **(options | {"where": {"energy": "x"}}))
    with pytest.raises(
        DatasetError, match="no column named 'flow'; its columns are time_tag, satellite, flux"
    ):
        TimeSeries.from_csv(path, **(options | {"value": "flow"}))
    with pytest.raises(DatasetError, match=r"cannot read .*absent\.csv as CSV"):
        TimeSeries.from_csv(tmp_path / "absent.csv", **options)


def test_pandas_series_with_time_zones_are_read() -> None:
    import pandas as pd

    index = pd.date_range("2024-03-01", periods=2, freq="10min", tz="Europe/Paris")
    series = TimeSeries.from_pandas(pd.Series([1.0, 2.0], index))
    assert series.times.tolist() == minutes(-60, -50).astype("M8[ms]").tolist()


def test_events_with_classes_are_read_from_pandas_and_csv(tmp_path) -> None:
    import pandas as pd

    peaks = ["2022-11-01T01:10:00", "2022-11-02T04:00:00"]
    window = (timedelta(0), timedelta(hours=24))
    series = pd.Series(["M1.2", "X2"], index=pd.to_datetime(peaks))
    pd.DataFrame({"peak": peaks, "class": series.to_numpy()}).to_csv(tmp_path / "f.csv")
    for events in (
        Events.from_pandas(series, window=window),
        Events.from_csv(tmp_path / "f.csv", time="peak", value="class", window=window),
    ):
        assert events.values.tolist() == pytest.approx([1.2e-5, 2e-4])
        assert events.times.astype("datetime64[s]").astype(str).tolist() == peaks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce": "median"}, "reduce must be one of nearest, .* not 'median'"),
        ({"gaps": "hold"}, "gaps='hold' requires max_age"),
        ({"max_age": MINUTE}, "max_age requires gaps='hold'"),
        ({"window": (MINUTE, 2 * MINUTE)}, "window cannot be used with reduce='nearest'"),
        ({"reduce": "mean", "tolerance": MINUTE}, "tolerance cannot be used with reduce='mean'"),
        ({"reduce": "mean", "window": (MINUTE, MINUTE)}, "is empty"),
        ({"values": [1.0]}, "one value per time"),
        ({"values": ["a", "b"]}, "must be numbers"),
        ({"values": [np.nan, np.nan]}, "no finite value"),
    ],
)
def test_incompatible_arguments_are_rejected(options, message) -> None:
    arguments = {"values": [1.0, 2.0]} | options
    with pytest.raises(DatasetError, match=message):
        TimeSeries(minutes(0, 10), **arguments)


def test_events_return_the_largest_class_or_zero() -> None:
    flares = Events(
        minutes(0, 60, 90),
        ["C5.0", "M1.2", "C1"],
        window=(timedelta(0), timedelta(hours=1)),
        covers=("2024-02-29", "2024-03-02"),
    )
    assert values_at(flares, -1, 0, 60, 95) == pytest.approx([5e-6, 1.2e-5, 1e-6, 0])
    assert values_at(flares, 24 * 60) == [None], "this window extends past the covered time"
    many = Events(minutes(0, 60), ["C5", "M1"], window=(-timedelta(hours=2), timedelta(hours=2)),
                  reduce="count", covers=("2024-02-29", "2024-03-02"))  # fmt: skip
    assert values_at(many, 30, 600) == [2, 0]


@pytest.mark.parametrize(("text", "flux"), [("X2", 2e-4), ("m1.5", 1.5e-5), (" B9.9 ", 9.9e-7)])
def test_flare_classes_are_converted_to_fluxes(text: str, flux: float) -> None:
    assert flare_flux(text) == pytest.approx(flux)


def test_invalid_flare_classes_are_rejected() -> None:
    with pytest.raises(DatasetError, match="'Y3' is not a GOES class"):
        flare_flux("Y3")


@pytest.mark.parametrize(
    "transform", [Log10(), Standardize(2.0, 3.0), Log10(then=Standardize(-6.0, 0.5))]
)
def test_transforms_can_be_inverted(transform) -> None:
    values = np.array([1e-8, 1e-6, 0.5])
    assert transform.inverse(transform.forward(values)) == pytest.approx(values)


def test_error_for_an_unfitted_transform_explains_how_to_fit_it() -> None:
    series = TimeSeries(minutes(0), [1.0], transform=Standardize())
    with pytest.raises(DatasetError, match=r"not fitted: use TimeSeries\.fitted\(train\)"):
        series.at(minutes(0), stride=STRIDE)


def test_entries_without_a_time_or_size_are_left_out() -> None:
    import pandas as pd

    for missing in (None, pd.NaT, np.nan, ""):
        series = TimeSeries(["2024-03-01T00:10", missing, "2024-03-01"], [2.0, 9.0, 1.0])
        assert series.times.tolist() == minutes(0, 10).astype("M8[ms]").tolist()
        assert series.values.tolist() == [1.0, 2.0]
    window = (timedelta(0), timedelta(hours=1))
    peaks = ["2024-03-01T00:10", None, "2024-03-01T00:20", "2024-03-01T00:30"]
    for missing in (None, np.nan, ""):
        events = Events(peaks, ["C1", "X9", missing, "M1"], window=window)
        assert events.values.tolist() == pytest.approx([1e-6, 1e-5])


def test_null_in_a_categorical_column_is_missing() -> None:
    """NumPy's conversion of an Arrow dictionary turns null into the last category."""
    table = pa.table(
        {
            "peak": pa.array(minutes(0, 10, 20)),
            "class": pa.array(["C1", None, "X1"]).dictionary_encode(),
            "kind": pa.array(["a", "a", "b"]).dictionary_encode(),
        }
    )
    window = (timedelta(0), timedelta(hours=1))
    events = Events.from_arrow(table, time="peak", value="class", window=window)
    assert events.values.tolist() == pytest.approx([1e-6, 1e-4])
    only = Events.from_arrow(table, time="peak", value="class", where={"kind": "a"}, window=window)
    assert only.values.tolist() == pytest.approx([1e-6])


def test_all_simultaneous_events_are_counted() -> None:
    options = {"window": (-2 * MINUTE, 2 * MINUTE), "covers": ("2024-02-29", "2024-03-02")}
    times, classes = minutes(0, 0, 0), ["C1", "X1", "C2"]
    for reduce, expected in (("max", 1e-4), ("count", 3), ("sum", 1.03e-4)):
        events = Events(times, classes, reduce=reduce, **options)
        assert values_at(events, 0) == pytest.approx([expected])


@pytest.mark.parametrize("options", [{}, {"gaps": "hold", "max_age": MINUTE}])
def test_empty_event_list_yields_zero_within_its_coverage(options) -> None:
    window = (timedelta(0), timedelta(hours=1))
    covers = ("2024-03-01", "2024-03-01T02:00")
    for reduce in ("max", "count", "sum"):
        quiet = Events([], [], window=window, covers=covers, reduce=reduce, **options)
        assert values_at(quiet, 0, 60, 61) == [0, 0, None]
    with pytest.raises(
        DatasetError, match="no event has both a time and a size, so covers is required"
    ):
        Events([], [], window=window)


def test_fractional_seconds_are_kept() -> None:
    text = ["2024-03-01T00:00:00.250", "2024-03-01T00:00:00.750"]
    for times in (text, [datetime.fromisoformat(one) for one in text], np.array(text, "M8[ns]")):
        series = TimeSeries(times, [1.0, 2.0])
        assert series.times.astype(str).tolist() == text


@pytest.mark.parametrize(
    ("times", "values", "options", "message"),
    [
        ([1667260800, 1667261700], [1, 2], {}, r"1667260800 .*; convert numbers, for example with"),
        (minutes(0), np.ones(1, complex), {}, "they are complex"),
        (minutes(0), [1.0], {"tolerance": -MINUTE}, "tolerance must not be negative"),
        (
            minutes(0),
            [1.0],
            {"gaps": "hold", "max_age": -MINUTE},
            "max_age must not be negative",
        ),
        (minutes(0), [1.0], {"reduce": "max", "window": MINUTE}, "must be a pair of timedeltas"),
        (
            minutes(0),
            [1.0],
            {"transform": "log"},
            "transform must be invertible, .* but 'log' has no inverse",
        ),
    ],
)
def test_error_names_unusable_values(times, values, options, message) -> None:
    with pytest.raises(DatasetError, match=message):
        TimeSeries(times, values, **options)


def test_tensors_with_gradients_and_tables_without_times_are_rejected() -> None:
    import pandas as pd
    import torch

    with pytest.raises(DatasetError, match="must be numbers: Can't call numpy"):
        TimeSeries(minutes(0), torch.ones(1, requires_grad=True))
    with pytest.raises(DatasetError, match="not DataFrame: select a column"):
        TimeSeries.from_pandas(pd.DataFrame({"flux": [1.0]}))
    table = pa.table([pa.array(minutes(0)), pa.array([1]), pa.array([1])], names=["t", "v", "v"])
    with pytest.raises(DatasetError, match="several columns named 'v'"):
        TimeSeries.from_arrow(table, time="t", value="v")
    with pytest.raises(DatasetError, match="column 'a' has type int64, which does not match 'x'"):
        TimeSeries.from_arrow(
            pa.table({"t": minutes(0), "v": [1], "a": [1]}), time="t", value="v", where={"a": "x"}
        )


@pytest.mark.parametrize("covers", [("2024-03-02", "2024-03-01"), "2024-03-01"])
def test_invalid_limits_of_an_event_list_are_rejected(covers) -> None:
    with pytest.raises(DatasetError, match="covers"):
        Events(minutes(0), ["C1"], window=(timedelta(0), MINUTE), covers=covers)
