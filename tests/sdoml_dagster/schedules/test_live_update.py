"""The near-real-time schedule and its runs, with a real instance and a simulated archive."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from sdoml_core.loader import LiveDataset
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.jobs.asset_jobs import DATASET_TAG
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.clock import Clock
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive
from tests.support.live import constants_for, settled_plan


@pytest.fixture
def now() -> datetime:
    """The actual time, because the runs use it."""
    return datetime.now(UTC)


@pytest.fixture
def live(frame_cache, now) -> Iterator[Archive]:
    clock = Clock(now, speed=0)
    plan = settled_plan(now)
    with Archive(cache=frame_cache, absences=False, clock=clock, live=plan) as archive:
        yield archive


@pytest.fixture
def settings(environment, live, monkeypatch) -> Settings:
    monkeypatch.setenv("SDOML_AIA_ROOTS", live.aia_root)
    monkeypatch.setenv("SDOML_HMI_ROOTS", live.hmi_root)
    monkeypatch.setenv("SDOML_CADENCE_MINUTES", "30")
    monkeypatch.setenv("SDOML_CHANNELS", "AIA_0171,HMI_M")
    monkeypatch.setenv("SDOML_AIA_TOLERANCE_MINUTES", "0")
    monkeypatch.setenv("SDOML_LIVE_HOURS", "2")  # leaves room if the hour changes during a test
    return Settings.load()


class Ticks:
    """Evaluates the schedule at chosen times and executes the runs that it requests."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.settings = settings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=DeprecationWarning)
            self.defs = build_defs(settings)
            self.job = self.defs.resolve_job_def("live_update")

    def tick(self, now: datetime) -> dg.RunRequest | str:
        """Return the requested run, or the reason why none was requested."""
        context = dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=now,
            resources=dict(self.defs.resources or {}),
        )
        data = self.defs.resolve_schedule_def("live_update_schedule").evaluate_tick(context)
        return data.run_requests[0] if data.run_requests else str(data.skip_message)

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return self.job.execute_in_process(tags=dict(request.tags), instance=self.instance)


@pytest.fixture
def ticks(settings, instance) -> Ticks:
    freeze(Store(settings.store), constants_for(settings), replace=False)
    return Ticks(settings, instance)


def test_schedule_is_off_by_default(ticks):
    schedule = ticks.defs.resolve_schedule_def("live_update_schedule")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.cron_schedule == "*/3 * * * *"


def test_tick_requests_one_run_for_all_new_frames(ticks, now):
    request = ticks.tick(now)
    assert ticks.run(request).success
    for asset in ("live_frames", "live_shards"):
        hours = ticks.instance.get_materialized_partitions(dg.AssetKey(asset))
        assert f"{now - timedelta(hours=1):%Y-%m-%d-%H:00}" in hours
        assert len(hours) <= 4
    dataset = LiveDataset(f"{ticks.settings.store}/live", ticks.settings.channels, now=lambda: now)
    window = dataset.latest(past=1, max_age=timedelta(hours=2), gaps="mask")
    assert window.mask[0, 0]
    assert "no new frames" in ticks.tick(now + timedelta(minutes=3))


def test_tick_without_constants_requests_no_run(ticks, live, now):
    Store(ticks.settings.store).delete(layout.CURRENT_NORMALIZATION)
    assert "run ingest for a few days" in ticks.tick(now)
    assert live.log.requests == []


def test_tick_is_skipped_while_a_run_is_in_progress(ticks, instance, now):
    request = ticks.tick(now)
    run = instance.create_run_for_job(ticks.job, tags={**ticks.job.tags, **request.tags})
    assert "in progress" in ticks.tick(now + timedelta(minutes=3))
    instance.delete_run(run.run_id)
    assert isinstance(ticks.tick(now + timedelta(minutes=6)), dg.RunRequest)


def test_failed_run_is_requested_again(ticks, live, now):
    request = ticks.tick(now)
    again = ticks.tick(now + timedelta(minutes=3))
    assert again.tags == request.tags
    assert again.run_key != request.run_key


def test_tick_reports_an_unavailable_archive_and_then_pauses(ticks, live, now):
    live.live.plan = LivePlan(down=[(now, now + timedelta(days=1))])
    assert "HTTP 503" in ticks.tick(now)
    before = len(live.log.requests)
    assert "no new frames" in ticks.tick(now + timedelta(minutes=1))
    assert len(live.log.requests) == before


def test_records_of_runs_older_than_the_window_are_deleted(ticks, instance, now):
    old = ticks.run(ticks.tick(now))
    assert "no new frames" in ticks.tick(now + timedelta(hours=1))
    assert instance.get_run_by_id(old.run_id)
    ticks.tick(now + timedelta(hours=2, minutes=5))
    assert instance.get_run_by_id(old.run_id) is None
    files = Path(instance.root_directory).rglob("*")
    assert not [path for path in files if old.run_id in path.name]
    assert not instance.get_materialized_partitions(dg.AssetKey("live_shards"))


def test_runs_of_other_datasets_and_jobs_are_kept(ticks, instance, now):
    other = instance.create_run_for_job(ticks.job, tags={DATASET_TAG: "other"})
    daily = instance.create_run_for_job(ticks.defs.resolve_job_def("make_release"))
    for run in (other, daily):
        instance.report_run_failed(run)
    ticks.tick(now + timedelta(days=30))
    assert instance.get_run_by_id(other.run_id)
    assert instance.get_run_by_id(daily.run_id)
