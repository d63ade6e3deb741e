"""Missing and bad frames depend only on file names and occur at the stated rates."""

from datetime import UTC, date, datetime, timedelta

import pytest

from sdoml_core.channels import CHANNELS
from sdoml_demo import absences
from sdoml_demo.absences import Quality, condition, exists

AIA = [channel for channel in CHANNELS.values() if channel.instrument == "AIA"]
HMI = CHANNELS["HMI_M"]
START = datetime(2024, 1, 1, tzinfo=UTC)


def aia_states(start=START):
    """Return the states of 4,500 frames, none of which are on the hour."""
    times = [start + timedelta(minutes=20 * k + 14) for k in range(500)]
    return [condition(channel, time) for time in times for channel in AIA]


def test_aia_frames_are_missing_at_the_stated_rates():
    states = aia_states()
    there = [state for state in states if state]
    assert states.count(None) / len(states) == pytest.approx(0.02, abs=0.007)
    bad = [s for s in there if s.quality & ~absences.QUICKLOOK_BIT]
    assert len(bad) / len(there) == pytest.approx(0.008, abs=0.004)
    quick = [s for s in there if s.quality == absences.QUICKLOOK_BIT]
    assert len(quick) / len(there) == pytest.approx(0.01, abs=0.005)
    assert len({s.quality & ~absences.QUICKLOOK_BIT for s in bad}) >= 5
    known = {quality.value for quality in Quality}
    assert {s.quality & ~absences.QUICKLOOK_BIT for s in bad} <= known


def test_only_recent_years_have_near_real_time_frames():
    old = [state for state in aia_states(START.replace(year=2015)) if state]
    assert not any(state.quality & absences.QUICKLOOK_BIT for state in old)


def test_1700_is_often_missing_at_the_top_of_the_hour():
    tops = [START + timedelta(hours=k) for k in range(1000)]
    missing = [condition(CHANNELS["AIA_1700"], top) for top in tops].count(None)
    assert 430 < missing < 570
    others = [condition(CHANNELS["AIA_1600"], top) for top in tops].count(None)
    assert others < 50


def test_hmi_frames_are_missing_at_the_stated_rates():
    states = [condition(HMI, START + timedelta(minutes=15 * k)) for k in range(6000)]
    there = [state for state in states if state]
    assert states.count(None) / len(states) == pytest.approx(0.01, abs=0.004)
    assert sum(state.black for state in there) / len(there) == pytest.approx(0.005, abs=0.003)
    assert sum(state.quicklook_label for state in there) / len(there) == pytest.approx(
        0.05, abs=0.01
    )


def test_no_frame_exists_before_launch_or_off_the_cadence():
    first = datetime(2010, 5, 13, tzinfo=UTC)
    assert exists(AIA[0], first)
    assert not exists(AIA[0], first - timedelta(minutes=2))
    assert not exists(AIA[0], first + timedelta(minutes=1))
    assert exists(HMI, first + timedelta(minutes=15))
    assert not exists(HMI, first + timedelta(minutes=12))
    assert date(2010, 5, 13) == absences.MISSION_START


def test_frame_states_depend_only_on_the_file_name():
    assert aia_states() == aia_states()
    # Hours of a day without 1700 Å. The values are fixed, because all machines must agree on them.
    day = [START + timedelta(hours=k) for k in range(24)]
    hours = [time.hour for time in day if condition(CHANNELS["AIA_1700"], time) is None]
    assert hours == [2, 3, 6, 7, 9, 11, 14, 17, 18, 19, 21]
