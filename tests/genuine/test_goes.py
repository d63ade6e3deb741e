"""A genuine day of GOES X-ray flux, read as in the worked example."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from sdoml_core.loader.targets import Log10, Standardize, TimeSeries

STEP = np.timedelta64(900, "s")


def test_both_bands_of_a_day_are_read(genuine: Path) -> None:
    for band, low, high in (("0.1-0.8nm", 5e-7, 1e-4), ("0.05-0.4nm", 1e-9, 1e-5)):
        flux = TimeSeries.from_csv(
            genuine / "goes_primary_timeseries.csv",
            time="time_tag",
            value="flux",
            where={"energy": band},
            reduce="max",
            window=(timedelta(0), timedelta(hours=1)),
            per="sample",
            transform=Log10(then=Standardize(-6.0, 0.5)),
        )
        assert flux.times[0] == np.datetime64("2025-07-29T21:05")
        assert 1400 < len(flux.times) <= 1440
        assert low < flux.values.min() < flux.values.max() < high
        times = np.datetime64("2025-07-30T00:00") + np.arange(80) * STEP
        values, present = flux.at(times, stride=STEP)
        assert present.all()
        hour = (flux.times > times[0]) & (flux.times <= times[0] + np.timedelta64(1, "h"))
        assert np.isclose(flux.inverse(values)[0], flux.values[hour].max())
