"""The code location: everything that Dagster loads for one dataset."""

import gc
import warnings

import dagster as dg

from sdoml_core.errors import SettingError
from sdoml_dagster import dagster_cli as command_line
from sdoml_dagster.assets.archive import build_archive_assets
from sdoml_dagster.assets.live import build_live_assets
from sdoml_dagster.assets.normalization import build_normalization_asset
from sdoml_dagster.assets.processed import build_processed_assets
from sdoml_dagster.assets.raw import build_raw_assets
from sdoml_dagster.assets.release import build_release_asset
from sdoml_dagster.assets.shards import build_shards_asset
from sdoml_dagster.checks.freshness import build_freshness_check
from sdoml_dagster.checks.processed import build_processed_checks
from sdoml_dagster.checks.release import build_release_check
from sdoml_dagster.checks.shards import build_shard_checks
from sdoml_dagster.jobs.asset_jobs import build_asset_jobs
from sdoml_dagster.jobs.live import build_live_job
from sdoml_dagster.jobs.maintenance import build_maintenance_jobs
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.runs.executor import recording_executor
from sdoml_dagster.schedules.daily_update import build_daily_update_schedule
from sdoml_dagster.schedules.live_update import build_live_update_schedule
from sdoml_dagster.sensors.automation import build_automation_sensors
from sdoml_dagster.sensors.day_range import build_day_range_sensor
from sdoml_dagster.sensors.dead_runs import build_dead_runs_sensor
from sdoml_dagster.sensors.event_log import build_event_log_sensors
from sdoml_dagster.sensors.failure_webhook import build_failure_sensors
from sdoml_dagster.sensors.freshness import build_freshness_sensor
from sdoml_dagster.settings.model import Settings


def build_defs(settings: Settings) -> dg.Definitions:
    """Build the definitions for the given settings."""
    with warnings.catch_warnings():
        # Dagster 1.13 warns that backfill policies and code references are in beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        return _definitions(settings)


def _definitions(settings: Settings) -> dg.Definitions:
    assets = [
        *build_raw_assets(settings),
        *build_processed_assets(settings),
        build_normalization_asset(settings),
        build_shards_asset(settings),
        build_release_asset(settings),
    ]
    return dg.Definitions(
        assets=[
            *build_archive_assets(settings),
            *build_live_assets(settings),
            *dg.with_source_code_references(assets),
        ],
        asset_checks=[
            *build_processed_checks(settings),
            build_shard_checks(settings),
            build_freshness_check(settings),
            build_release_check(settings),
        ],
        executor=recording_executor,
        jobs=[
            *build_asset_jobs(settings),
            *build_maintenance_jobs(settings),
            build_live_job(settings),
        ],
        schedules=[
            build_daily_update_schedule(settings),
            build_live_update_schedule(settings),
        ],
        sensors=[
            build_freshness_sensor(settings),
            build_day_range_sensor(settings),
            build_dead_runs_sensor(),
            *build_automation_sensors(settings),
            *build_failure_sensors(settings),
            *build_event_log_sensors(settings),
        ],
        resources={
            "store": StoreResource(url=settings.store),
            "archive": ArchiveResource.of(settings),
        },
    )


try:
    _settings = Settings.load()
except SettingError:
    # Dagster's command line would print a long traceback before the important line.
    command_line.set_up()
    raise

command_line.set_up(_settings)
defs = build_defs(_settings)
if command_line.is_command_line():
    # Dagster creates about a hundred thousand objects that are never freed. Unless they are frozen,
    # the garbage collector scans them repeatedly during imports, which takes a tenth of the startup
    # time.
    gc.freeze()
