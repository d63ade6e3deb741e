"""Compare degradation factors of response tables with aiapy."""

from datetime import date
from pathlib import Path

import astropy.units as u
import pytest
from astropy.time import Time

from sdoml_core.errors import SettingError
from sdoml_core.frames.degradation import DegradationTable

DAYS = [date(2010, 5, 13), date(2012, 6, 1), date(2014, 5, 25), date(2017, 12, 1), date(2024, 3, 8)]
CHANNELS = (94, 131, 171, 193, 211, 304, 335, 1600, 1700)


def assert_equal_to_aiapy(path: Path) -> DegradationTable:
    """Compare all channels on some days. Factors that are not positive must be rejected.

    aiapy counts leap seconds since the start of an epoch, which changes factors by up to 2.5e-8.
    """
    from aiapy.calibrate import degradation  # the import takes seconds in each test process
    from aiapy.calibrate.util import get_correction_table

    ours = DegradationTable.from_response_table(path.read_bytes())
    theirs = get_correction_table(path)
    for wavelength in CHANNELS:
        for day in DAYS:
            channel, time = wavelength * u.angstrom, Time(day.isoformat())
            expected = float(degradation(channel, time, correction_table=theirs)[0])
            if expected > 0:
                assert ours.factor(day, wavelength) == pytest.approx(expected, rel=1e-7)
            else:
                with pytest.raises(
                    SettingError, match=rf"\(not above 0\) for {wavelength} Å on {day}"
                ):
                    ours.factor(day, wavelength)
    return ours
