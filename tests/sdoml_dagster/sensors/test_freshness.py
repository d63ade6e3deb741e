"""The freshness check fails if a due day has no shard, regardless of which day was built last."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.pipeline.freshness import judge_freshness
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

# With a lag of 8 days and one more day of grace, March 11 is the newest due day.
NOW = datetime(2024, 3, 20, 12, tzinfo=UTC)
DUE = date(2024, 3, 11)


def build(store: Store, *days: int) -> None:
    """Create empty shards and indexes for days in March 2024."""
    for number in days:
        day = date(2024, 3, number)
        store.write(layout.shard(day), b"")
        store.write(layout.shard_index(day), b"")


def test_newest_due_day_must_have_a_shard(settings: Settings) -> None:
    store = Store(settings.store)
    build(store, 8, 9, 10)
    found = judge_freshness(settings, store, now=NOW)
    assert (found.fresh, found.due, found.missing) == (False, DUE, (DUE,))
    build(store, 11)
    assert judge_freshness(settings, store, now=NOW).fresh
    tomorrow = judge_freshness(settings, store, now=NOW + timedelta(days=1))
    assert str(tomorrow) == "no shard for 2024-03-12"


def test_gaps_after_the_first_shard_are_reported(settings: Settings) -> None:
    store = Store(settings.store)
    build(store, 7, 9, 11)
    assert str(judge_freshness(settings, store, now=NOW)) == "no shard for 2024-03-08, 2024-03-10"


def test_shard_without_its_index_is_missing(settings: Settings) -> None:
    store = Store(settings.store)
    build(store, 9, 10, 11)
    store.delete(layout.shard_index(date(2024, 3, 10)))
    assert not judge_freshness(settings, store, now=NOW).fresh


def test_days_after_the_end_are_never_due(settings: Settings) -> None:
    ended = Settings.load(end="2024-03-10")
    build(Store(settings.store), 8, 9)
    assert judge_freshness(ended, Store(settings.store), now=NOW).fresh


def test_empty_store_is_missing_the_newest_due_day(settings: Settings) -> None:
    assert judge_freshness(settings, Store(settings.store), now=NOW).missing == (DUE,)
    early = datetime(2024, 3, 4, tzinfo=UTC)
    assert str(judge_freshness(settings, Store(settings.store), now=early)) == "no day is due yet"


def tick(
    instance: dg.DagsterInstance, settings: Settings, cursor: str | None = None
) -> dg.SensorResult | object:
    sensor = build_defs(settings).resolve_sensor_def("freshness_sensor")
    with dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"store": StoreResource(url=settings.store)}
    ) as context:
        return sensor.evaluate_tick(context)


def test_sensor_reports_only_changed_evaluations(
    environment: dict[str, str],
) -> None:
    settings = Settings.load(end="2024-03-10")
    build(Store(settings.store), 8)
    with dg.DagsterInstance.ephemeral() as instance:
        first = tick(instance, settings)
        (evaluation,) = first.asset_events
        assert not evaluation.passed
        assert evaluation.severity == dg.AssetCheckSeverity.ERROR
        assert evaluation.description == "no shard for 2024-03-09"
        again = tick(instance, settings, first.cursor)
        assert again.asset_events == []
        assert again.skip_message == "unchanged: no shard for 2024-03-09"
        build(Store(settings.store), 9)
        (evaluation,) = tick(instance, settings, first.cursor).asset_events
        assert evaluation.passed
        # A materialization makes the UI show the evaluation as outdated, so the next tick runs the
        # check again.
        fresh = tick(instance, settings)
        instance.report_runless_asset_event(dg.AssetMaterialization("shards"))
        assert len(tick(instance, settings, fresh.cursor).asset_events) == 1
        assert instance.get_runs() == []
