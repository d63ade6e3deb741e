"""The daily schedule, evaluated by Dagster's scheduler with the real code location.

Only the clock is simulated: the tests run the scheduler at given times. The code location is a
separate process, and queued runs are actually executed.
"""

from dataclasses import replace
from datetime import date, timedelta

import dagster as dg
import pytest

from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.pipeline.completeness import days_due, is_complete
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo.faults import FaultPlan
from sdoml_demo.server import Archive
from tests.support.clockwork import TICK, Clockwork
from tests.support.deployment import Days
from tests.support.runs import Materialize

WINDOW = ["2024-03-10", "2024-03-11", "2024-03-12"]


def test_tick_requests_every_incomplete_day(
    constants: None, clockwork: Clockwork, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The archive fails for one day and lacks frames for the afternoon of another day.
    faults = Days(outage=frozenset({"2024/03/11"}), half=frozenset({"2024/03/12"}))
    monkeypatch.setattr(archive, "faults", faults)
    assert clockwork.tick(TICK) == WINDOW
    # The runs are still queued, so no day is requested twice.
    assert clockwork.tick(TICK + timedelta(days=1)) == ["2024-03-13"]
    assert clockwork.work() == {
        "2024-03-10": "ok",
        "2024-03-11": "failed",
        "2024-03-12": "ok",
        "2024-03-13": "ok",
    }
    # The next tick requests the incomplete day, whose frames may still appear, and the new day.
    assert clockwork.tick(TICK + timedelta(days=1, hours=24)) == [
        "2024-03-12",
        "2024-03-14",
    ]
    clockwork.work()
    # Now all days are complete.
    monkeypatch.setattr(archive, "faults", FaultPlan())
    assert clockwork.tick(TICK + timedelta(days=3)) == ["2024-03-15"]


def test_failed_day_is_requested_again_until_every_day_is_complete(
    constants: None, clockwork: Clockwork, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "faults", Days(outage=frozenset({"2024/03/12"})))
    assert clockwork.tick(TICK) == WINDOW
    assert clockwork.tick(TICK) == [], "a repeated tick must not request any day"
    assert clockwork.work()["2024-03-12"] == "failed"
    monkeypatch.setattr(archive, "faults", FaultPlan())
    assert clockwork.tick(TICK + timedelta(days=1)) == ["2024-03-12", "2024-03-13"]
    assert set(clockwork.work().values()) == {"ok"}
    context = dg.build_schedule_context(
        instance=clockwork.instance,
        scheduled_execution_time=TICK + timedelta(days=1),
        resources={"store": StoreResource(url=Settings.load().store)},
    )
    schedule = build_defs(Settings.load()).resolve_schedule_def("daily_update_schedule")
    said = schedule.evaluate_tick(context)
    assert said.run_requests == []
    assert said.skip_message == "every day in the look-back window is complete or in progress"
    assert clockwork.tick(TICK + timedelta(days=2)) == ["2024-03-14"]


def test_day_whose_shard_is_older_than_its_ledger_is_requested(
    constants: None,
    clockwork: Clockwork,
    materialize: Materialize,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SDOML_MISSING_RECHECK_HOURS", "0")
    monkeypatch.setattr(archive, "faults", Days(half=frozenset({"2024/03/12"})))
    clockwork.tick(TICK)
    clockwork.work()
    # The missing frames appear. A run fetches them, but is killed before it processes them.
    monkeypatch.setattr(archive, "faults", FaultPlan())
    assert materialize("raw_aia", "raw_hmi", day="2024-03-12").success
    assert clockwork.tick(TICK + timedelta(days=1)) == ["2024-03-12", "2024-03-13"]
    clockwork.work()
    assert clockwork.tick(TICK + timedelta(days=2)) == ["2024-03-14"]


def test_tick_without_constants_explains_what_to_run(window: None, clockwork: Clockwork) -> None:
    assert clockwork.tick(TICK) == []
    schedule = clockwork.schedule
    (last,) = clockwork.instance.get_ticks(schedule.get_remote_origin_id(), schedule.selector_id)
    assert "run ingest for a few days, then fit_normalization" in str(last.skip_reason)


def test_day_of_one_instrument_can_be_complete(window: None, materialize: Materialize) -> None:
    alone = Settings.load(channels=("HMI_M",))
    store, day = Store(alone.store), date(2024, 3, 8)
    steps = ("raw_hmi", "processed_hmi", "normalization_stats")
    assert materialize(*steps, day=str(day), channels=("HMI_M",)).success
    assert not is_complete(alone, StoredDay(store, day)), "a day without a shard is incomplete"
    assert materialize("shards", day=str(day), channels=("HMI_M",)).success
    assert is_complete(alone, StoredDay(store, day))
    assert not is_complete(Settings.load(), StoredDay(store, day))


@pytest.mark.parametrize(
    "damaged",
    [
        "raw/2024/03/08/hmi.parquet",
        "processed/2024/03/08/aia.parquet",
        "shards/2024/sdoml-lite-2024-03-08.parquet",
    ],
)
def test_damaged_table_makes_a_day_due(
    built: dg.DagsterInstance, settings: Settings, damaged: str
) -> None:
    store, day = Store(settings.store), date(2024, 3, 8)
    assert is_complete(settings, StoredDay(store, day))
    store.write(damaged, store.read(damaged)[:-100])
    assert not is_complete(settings, StoredDay(store, day))


def test_recorded_outage_makes_a_day_due(built: dg.DagsterInstance, settings: Settings) -> None:
    store, day = Store(settings.store), date(2024, 3, 8)
    first, *others = StoredDay(store, day).ledger("HMI") or []
    out = replace(first, status="outage", file=None, sha256=None)
    store.write(layout.raw_ledger(day, "HMI"), RAW_LEDGER.encode([out, *others]))
    assert not is_complete(settings, StoredDay(store, day))


def test_day_with_fewer_channels_or_slots_is_due(
    built: dg.DagsterInstance, settings: Settings
) -> None:
    store, day = Store(settings.store), date(2024, 3, 8)
    assert is_complete(settings, StoredDay(store, day))
    wider = Settings.load(channels=(*settings.channels, "AIA_0304"))
    assert not is_complete(wider, StoredDay(store, day))
    assert not is_complete(Settings.load(cadence_minutes=180), StoredDay(store, day))


def test_frame_that_replaced_a_stand_in_makes_a_day_due(
    built: dg.DagsterInstance, settings: Settings
) -> None:
    store, day = Store(settings.store), date(2024, 3, 8)
    first, *others = StoredDay(store, day).ledger("AIA") or []
    assert first.observed is not None
    other = replace(first, observed=first.observed + timedelta(minutes=2))
    store.write(layout.raw_ledger(day, "AIA"), RAW_LEDGER.encode([other, *others]))
    assert not is_complete(settings, StoredDay(store, day))


def test_days_outside_the_dataset_are_not_requested(settings: Settings) -> None:
    store = Store(settings.store)
    bounded = Settings.load(start="2024-03-05", end="2024-03-07", lookback_days=28)
    due = list(days_due(bounded, store, today=TICK.date()))
    assert [str(day) for day in due] == ["2024-03-05", "2024-03-06"]
    assert list(days_due(settings, store, today=settings.start.date())) == []


def test_newest_day_is_yesterday_without_a_publication_lag(settings: Settings) -> None:
    eager = Settings.load(publication_lag_days=0, lookback_days=2)
    due = list(days_due(eager, Store(settings.store), today=TICK.date()))
    assert [str(day) for day in due] == ["2024-03-18", "2024-03-19"]
    partitions = daily_partitions(eager)
    assert all(partitions.has_partition_key(str(day)) for day in due)
