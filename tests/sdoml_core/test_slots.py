"""Slots, AIA pairing and archive file names, compared with examples from the original dataset."""

from datetime import UTC, date, datetime, timedelta

import pytest

from sdoml_core.channels import CHANNELS, parse_channels
from sdoml_core.errors import SettingError
from sdoml_core.slots import candidate_minutes, day_slots, live_minutes, midnight, paired_minute
from sdoml_dagster.archive.tree import archive_path, file_name

DAY = date(2024, 1, 2)
AIA = CHANNELS["AIA_0094"]
HMI = CHANNELS["HMI_M"]


def at(hour: int, minute: int, day: int = 2) -> datetime:
    return datetime(2024, 1, day, hour, minute, tzinfo=UTC)


def test_default_cadence_gives_96_slots_from_midnight() -> None:
    slots = day_slots(DAY, cadence_minutes=15)
    assert len(slots) == 96
    assert slots[0] == midnight(DAY)
    assert slots[-1] == at(23, 45)


def test_range_is_half_open() -> None:
    slots = day_slots(DAY, cadence_minutes=15, start=at(5, 7), end=at(6, 0))
    assert slots == (at(5, 15), at(5, 30), at(5, 45))
    assert day_slots(DAY, cadence_minutes=15, start=at(6, 0), end=at(6, 1)) == (at(6, 0),)


def test_day_outside_the_range_has_no_slots() -> None:
    assert day_slots(DAY, cadence_minutes=15, start=at(0, 0, day=3)) == ()


@pytest.mark.parametrize(
    ("hmi", "aia"), [((3, 0), (3, 0)), ((3, 15), (3, 14)), ((3, 30), (3, 30)), ((3, 45), (3, 44))]
)
def test_pairing_matches_the_original(hmi: tuple[int, int], aia: tuple[int, int]) -> None:
    assert paired_minute(AIA, at(*hmi)) == at(*aia)
    assert paired_minute(HMI, at(*hmi)) == at(*hmi)


def test_paired_aia_minutes_are_even() -> None:
    for cadence in (2, 4, 6, 12, 15, 30, 36, 45, 60, 720):
        for slot in day_slots(DAY, cadence_minutes=cadence):
            assert paired_minute(AIA, slot).minute % 2 == 0
            assert slot - paired_minute(AIA, slot) in {slot - slot, at(0, 1) - at(0, 0)}


def test_stand_in_candidates_alternate_starting_with_the_later() -> None:
    minutes = candidate_minutes(AIA, at(3, 15), tolerance_minutes=4, cadence_minutes=15)
    assert minutes == (at(3, 14), at(3, 16), at(3, 12), at(3, 18), at(3, 10))


def test_zero_tolerance_and_hmi_allow_no_stand_ins() -> None:
    assert candidate_minutes(AIA, at(3, 15), tolerance_minutes=0, cadence_minutes=15) == (
        at(3, 14),
    )
    assert candidate_minutes(HMI, at(3, 15), tolerance_minutes=60, cadence_minutes=15) == (
        at(3, 15),
    )


@pytest.mark.parametrize("cadence", [2, 4, 6, 8, 12, 15, 30, 45, 75, 105, 210, 285])
def test_no_frame_is_used_for_two_slots(cadence: int) -> None:
    claimed: dict[datetime, datetime] = {}
    days = (DAY, DAY + timedelta(days=1))
    for slot in (slot for day in days for slot in day_slots(day, cadence_minutes=cadence)):
        for minute in candidate_minutes(AIA, slot, tolerance_minutes=60, cadence_minutes=cadence):
            assert claimed.setdefault(minute, slot) == slot


def test_live_slots_use_the_nearest_third_minute() -> None:
    def minutes(slot: datetime, cadence: int) -> list[datetime]:
        return list(live_minutes(AIA, slot, tolerance_minutes=4, cadence_minutes=cadence))

    assert minutes(at(1, 15), 15) == [at(1, 15), at(1, 18), at(1, 12)]
    assert minutes(at(1, 4), 4) == [at(1, 3)]
    assert minutes(at(1, 2), 2) == []
    assert live_minutes(HMI, at(1, 15), tolerance_minutes=4, cadence_minutes=15) == (at(1, 15),)


@pytest.mark.parametrize("cadence", [2, 4, 6, 10, 15, 30, 45])
def test_no_live_frame_is_used_for_two_slots(cadence: int) -> None:
    claimed: dict[datetime, datetime] = {}
    days = (DAY, DAY + timedelta(days=1))
    for slot in (slot for day in days for slot in day_slots(day, cadence_minutes=cadence)):
        for minute in live_minutes(AIA, slot, tolerance_minutes=60, cadence_minutes=cadence):
            assert claimed.setdefault(minute, slot) == slot


def test_archive_paths_match_the_jsoc() -> None:
    assert archive_path(AIA, at(1, 0)) == "2024/01/02/H0100/AIA20240102_0100_0094.fits"
    assert archive_path(HMI, at(0, 15)) == "2024/01/02/20240102_001500_M_1k.jpg"
    assert file_name(CHANNELS["AIA_1700"], at(23, 44)) == "AIA20240102_2344_1700.fits"


def test_channels_are_sorted_and_case_insensitive() -> None:
    assert [c.name for c in parse_channels(["hmi_m", "AIA_0193", " aia_0094 ", "hmi_m"])] == [
        "AIA_0094",
        "AIA_0193",
        "HMI_M",
    ]


@pytest.mark.parametrize("names", [["AIA_0999"], [], ["", " "]])
def test_unknown_or_empty_channels_are_rejected(names: list[str]) -> None:
    with pytest.raises(SettingError, match="AIA_0094, AIA_0131"):
        parse_channels(names)
