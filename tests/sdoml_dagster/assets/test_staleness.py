"""Exactly the days that a rebuild would change are stale."""

import dagster as dg

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY, FIRST, SECOND, Materialize
from tests.support.staleness import stale

THIRD = "2024-03-10"
ALL = (*DAILY, "normalization_stats")


def test_newly_built_days_are_fresh(built: dg.DagsterInstance) -> None:
    assert stale(built, FIRST, SECOND) == set()


def test_new_day_makes_no_other_day_stale(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    assert materialize(*ALL, day=THIRD).success
    assert stale(built, FIRST, SECOND, THIRD) == set()


def test_same_result_makes_nothing_stale(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    for asset in DAILY:
        assert materialize(asset, day=FIRST).success
        assert stale(built, FIRST, SECOND) == set(), asset


def test_new_constants_make_only_shards_stale(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    result = materialize("normalization_stats")
    assert stale(built, FIRST, SECOND) == {f"shards@{FIRST}", f"shards@{SECOND}"}
    said = [entry.user_message for entry in built.all_logs(result.run_id)]
    assert any("Run build_shards again for the 2 days with a shard" in text for text in said)
    assert materialize("shards", day=FIRST).success
    assert materialize("shards", day=SECOND).success
    assert stale(built, FIRST, SECOND) == set()


def test_refitting_to_the_same_days_makes_nothing_stale(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    fit = {"normalization_stats": {"config": {"last_day": FIRST}}}
    assert materialize("normalization_stats", config=fit).success
    assert stale(built, FIRST, SECOND) == set()


def test_rebuilding_a_day_of_a_range_makes_nothing_stale(
    materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    assert materialize(*ALL, days=(FIRST, SECOND)).success
    assert materialize("raw_aia", day=FIRST).success
    assert materialize("processed_aia", day=FIRST).success
    assert stale(instance, FIRST, SECOND) == set()


def test_new_resolution_makes_processed_days_stale(built: dg.DagsterInstance) -> None:
    found = stale(built, FIRST, resolution=128)
    assert found == {f"processed_aia@{FIRST}", f"processed_hmi@{FIRST}"}


def test_changed_pixels_make_the_shard_stale(
    built: dg.DagsterInstance, materialize: Materialize
) -> None:
    assert materialize("processed_hmi", day=FIRST, hmi_scale=0.85).success
    assert stale(built, FIRST, SECOND, hmi_scale=0.85) == {
        f"shards@{FIRST}",
        f"processed_hmi@{SECOND}",
    }


def range_changes(
    instance: dg.DagsterInstance, cursor: str | None, **settings: object
) -> str | None:
    """Evaluate the sensor for the day range, record its observations, and return its cursor."""
    sensor = build_defs(Settings.load(**settings)).resolve_sensor_def("day_range_sensor")
    with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
        found = sensor.evaluate_tick(context)
    for event in found.asset_events:
        instance.report_runless_asset_event(event)
    return found.cursor


def test_partial_day_becomes_stale_when_the_range_grows(
    materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    noon, midnight = f"{SECOND}T12:00", THIRD
    for day in (FIRST, SECOND):
        assert materialize(*ALL, day=day, end=noon).success
    cursor = range_changes(instance, None, end=noon)
    assert stale(instance, FIRST, SECOND, end=noon) == set()
    cursor = range_changes(instance, cursor, end=midnight)
    assert stale(instance, FIRST, SECOND, end=midnight) == {
        f"raw_aia@{SECOND}",
        f"raw_hmi@{SECOND}",
    }
    assert materialize(*DAILY, day=SECOND, end=midnight).success
    assert stale(instance, FIRST, SECOND, end=midnight) == set()
    range_changes(instance, cursor, end=midnight)
    assert stale(instance, FIRST, SECOND, end=midnight) == set()
