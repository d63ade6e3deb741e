import csv
import hashlib
from datetime import date, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import pytest

from sdoml_core.errors import MissingInputError, SettingError
from sdoml_core.frames.degradation import DegradationTable
from tests.support.aiapy_factors import assert_equal_to_aiapy
from tests.support.response_table import HAND_MADE

CSV = Path(__file__).parents[3] / "sdoml_core/data/degradation_v9.csv"


def rows() -> list[dict[str, str]]:
    with CSV.open(newline="") as file:
        return list(csv.DictReader(file))


def test_default_table_has_one_factor_per_day() -> None:
    table = DegradationTable.default()
    assert table.version == "V9"
    assert table.sha256 == hashlib.sha256(CSV.read_bytes()).hexdigest()
    for row in rows()[::97]:
        day = date.fromisoformat(row.pop("date"))
        for wavelength, factor in row.items():
            assert table.factor(day, int(wavelength)) == float(factor)


def test_days_after_the_table_use_the_frozen_value() -> None:
    table = DegradationTable.default()
    frozen = float(rows()[-1]["171"])
    assert table.calibrated_until == date(2020, 6, 2)
    for day in (date(2020, 6, 3), date(2022, 11, 1), date(2040, 1, 1)):
        assert table.factor(day, 171) == frozen
        assert table.extrapolated(day)
    assert not table.extrapolated(date(2020, 6, 2))
    assert not table.extrapolated(date(2010, 5, 13))


def test_days_before_the_table_use_its_first_row() -> None:
    table = DegradationTable.default()
    assert table.factor(date(2010, 4, 1), 171) == float(rows()[0]["171"])


def test_error_names_the_missing_wavelength() -> None:
    with pytest.raises(MissingInputError, match="4500 Å, only for 94, 131"):
        DegradationTable.default().factor(date(2012, 1, 1), 4500)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "date,94\n",
        "date,94\n2010-05-01,1\n2010-05-03,1\n",
        "date,94\n2010-05-01\n",
        "date,94\n2010-05-01,1,2\n",
        "date,EUV\n2010-05-01,1\n",
        "date,94\nyesterday,1\n",
        "<html>",
    ],
)
def test_bad_table_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(SettingError, match="degradation table") as failure:
        DegradationTable.from_csv(text.encode(), version="V0")
    assert "\n" not in str(failure.value)


def independent_factor(day: date, wavelength: str) -> float:
    """Evaluate the published formula row by row, without the package's code."""
    table = [line.split() for line in HAND_MADE.splitlines()[1:]]
    mine = [row for row in table if row[2] == wavelength and row[1] == "10"]
    reference = min(mine, key=lambda row: row[4])
    now = np.datetime64(day, "s")
    valid = [row for row in mine if np.datetime64(row[4][:-1]) <= now < np.datetime64(row[5][:-1])]
    row = max(valid, key=lambda row: row[0])
    days = (now - np.datetime64(row[4][:-1])) / np.timedelta64(1, "D")
    polynomial = np.polyval([float(row[8]), float(row[7]), float(row[6]), 1.0], days)
    return float(polynomial * float(row[9]) / float(reference[9]))


@pytest.mark.parametrize(("wavelength", "channel"), [(94, "94_THIN"), (1600, "1600")])
def test_response_table_follows_the_published_formula(wavelength: int, channel: str) -> None:
    table = DegradationTable.from_response_table(HAND_MADE.encode())
    assert table.version == "V10"
    for offset in range(0, 7000, 37):
        day = date(2010, 5, 1) + timedelta(days=offset)
        assert table.factor(day, wavelength) == pytest.approx(
            independent_factor(day, channel), rel=1e-12
        )


def test_response_table_matches_manual_values() -> None:
    table = DegradationTable.from_response_table(HAND_MADE.encode())
    assert table.factor(date(2010, 3, 24), 94) == 1
    hundred_days = 1 - 1e-2 + 2e-3 - 1e-4
    assert table.factor(date(2010, 7, 2), 94) == pytest.approx(hundred_days, rel=1e-12)
    assert table.factor(date(2012, 1, 15), 94) == pytest.approx(0.5)  # the newer row is used
    assert table.factor(date(2014, 5, 2), 94) == pytest.approx(0.9)
    assert table.factor(date(2024, 1, 1), 1600) == pytest.approx(0.5)
    assert table.calibrated_until == date(2018, 1, 1)
    assert table.extrapolated(date(2018, 1, 2))
    assert not table.extrapolated(date(2018, 1, 1))


def test_comments_in_a_response_table_are_ignored() -> None:
    head, *body = HAND_MADE.splitlines()
    remarks = ["# made by hand", "-----+-----", "", "#", "  # 94_THIN is the first"]
    table = DegradationTable.from_response_table("\n".join([head, *remarks, *body]).encode())
    plain = DegradationTable.from_response_table(HAND_MADE.encode())
    for day in (date(2010, 7, 2), date(2014, 5, 2), date(2024, 1, 1)):
        assert table.factor(day, 94) == plain.factor(day, 94)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DATE VER_NUM\n2020 10\n",
        HAND_MADE.splitlines()[0],
        HAND_MADE.replace("0.3900", "area"),
        HAND_MADE.replace("EFFA_P2", "EFFA_XX"),
        HAND_MADE.replace("94_THIN", "94_OPEN").replace("1600", "1601_X"),
        "<html>404</html>",
    ],
)
def test_bad_response_table_is_reported_in_one_line(text: str) -> None:
    with pytest.raises(SettingError, match="degradation table") as failure:
        DegradationTable.from_response_table(text.encode())
    assert "\n" not in str(failure.value)


def test_binary_table_is_rejected() -> None:
    with pytest.raises(SettingError):
        DegradationTable.from_response_table(b"\xff\xfe\x00")


@pytest.mark.parametrize("factor", ["0", "-0.5", "nan", "inf"])
def test_bad_factor_is_an_error_only_when_used(factor: str) -> None:
    text = f"date,94,131\n2010-05-01,1,{factor}\n2010-05-02,1,0.9\n"
    table = DegradationTable.from_csv(text.encode(), version="V0")
    assert table.factor(date(2010, 5, 1), 94) == 1
    assert table.factor(date(2010, 5, 2), 131) == 0.9
    with pytest.raises(SettingError, match=r"degradation table V0 has .* 131 Å on 2010-05-01"):
        table.factor(date(2010, 5, 1), 131)


@pytest.mark.parametrize(
    ("table", "day"),
    [
        (HAND_MADE.replace("0.3900", "-1.00"), date(2011, 1, 1)),
        (HAND_MADE.replace("2010-09-23T00:00:00Z 2014", "2011-09-23T00:00:00Z 2014"),
         date(2011, 1, 1)),
    ],
    ids=["negative area", "gap"],
)  # fmt: skip
def test_bad_epoch_is_an_error_only_when_used(table: str, day: date) -> None:
    read = DegradationTable.from_response_table(table.encode())
    assert read.factor(date(2010, 7, 2), 94) > 0
    assert read.factor(day, 1600) > 0
    with pytest.raises(SettingError, match=f"degradation table V10 has .* 94 Å on {day}"):
        read.factor(day, 94)


def test_rows_of_other_channels_are_ignored() -> None:
    table = HAND_MADE.replace("9.0000", "absent")  # a number in the row for 94_THICK
    assert DegradationTable.from_response_table(table.encode()).factor(date(2010, 7, 2), 94) > 0


V8 = files("aiapy") / "tests/data/aia_V8_20171210_050627_response_table.txt"


def test_valid_version_8_factors_match_aiapy() -> None:
    """Version 8 has negative factors for 304 Å since 2020."""
    with as_file(V8) as path:
        assert assert_equal_to_aiapy(path).version == "V8"


def test_file_other_than_the_version_10_table_is_rejected() -> None:
    with pytest.raises(SettingError, match=r"aia_V10_20201119_190000_response_table\.txt is 0a3f"):
        DegradationTable.from_v10(HAND_MADE.encode())
