"""Job ``adopt_store``: record the content of an existing store in Dagster.

For each day that is not in Dagster's records, the job reports a materialization with its data
version and metadata, and runs the checks that need no pixels. It does not use the network.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.event_api import EventLogRecord

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.archive import availability, observation
from sdoml_dagster.assets.data_versions import CONTENT, content_hash
from sdoml_dagster.assets.normalization import constants_metadata, normalization_code_version
from sdoml_dagster.assets.processed import processed_code_version
from sdoml_dagster.assets.raw import raw_code_version
from sdoml_dagster.assets.release import RELEASE_CODE_VERSION
from sdoml_dagster.assets.shards import shards_code_version
from sdoml_dagster.assets.version_tags import Input, version_tags
from sdoml_dagster.checks.days import DayChecks, Finding, as_target, evaluation, judged
from sdoml_dagster.checks.processed import processed_checks
from sdoml_dagster.checks.shards import SHARD_CHECKS
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.jobs.asset_jobs import daily_assets
from sdoml_dagster.jobs.launchpad import default_run_config
from sdoml_dagster.jobs.runless_events import record_events
from sdoml_dagster.latest_events import latest_of_days
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.progress import Progress
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.recent_tables import RecentTables
from sdoml_dagster.store.store import Store
from sdoml_dagster.ui_metadata import coverage_metadata, number, path

if TYPE_CHECKING:
    from sdoml_core.normalization.constants import Normalization
    from sdoml_dagster.maintenance.contents import DayContents, StoredFrames, StoredShard

OTHER_SETTINGS = "other settings"
"""Code version of a day that the current settings would build differently. It makes the day
stale."""

NO_DAY = ""
"""Key for the latest record of an asset without partitions."""

BATCH_DAYS = 50
"""Number of days that are reported together."""


class AdoptConfig(DayRangeConfig):
    """Days in the store to report. The default is all days."""


def build_adopt_job(settings: Settings) -> dg.JobDefinition:
    """Build the job ``adopt_store``."""

    @dg.op(name="adopt", description="Records days in the store that Dagster has no record of.")
    def adopt(context: dg.OpExecutionContext, config: AdoptConfig, store: StoreResource) -> None:
        from sdoml_dagster.maintenance.contents import read_dataset, read_days, stored_days

        with failures_explained():
            opened = RecentTables(store.url)
            days = stored_days(settings, opened, config_days(config))
            reporter = _Reporter(context.instance, settings, opened)
            progress = Progress("adopt_store", len(days), context.log.info, unit="days")
            for contents in read_days(settings, opened, days):
                reporter.add(contents)
                for line in contents.damaged:
                    context.log.error(line)
                progress.step("damaged" if contents.damaged else "ok")
            reporter.flush()
            # These events come last, because Dagster compares their order with that of the daily
            # events.
            dataset = read_dataset(settings, opened)
            if dataset.constants is not None:
                reporter.constants(dataset.constants)
            if dataset.release_sums is not None:
                reporter.release(dataset.release_sums)
        reported = reporter.reported
        context.log.info(
            f"adopt_store: reported {counted(reported.total(), 'materialization')} from "
            f"{counted(len(days), 'day')} in the store"
        )
        context.add_output_metadata({"days": len(days), **reported})

    @dg.job(
        description=(
            "Add all days in the store to Dagster's records. Use this job if Dagster's database "
            "was lost, or for a store from another deployment. It reads no pixels and fetches "
            "nothing."
        ),
        config=default_run_config("adopt", AdoptConfig),
    )
    def adopt_store() -> None:
        adopt()

    return adopt_store


@dataclass(frozen=True, slots=True)
class _Report:
    """A report for one asset and day."""

    asset: str
    day: date
    version: str
    code_version: str
    inputs: Mapping[str, str | None]
    """Versions of the inputs that were used, by asset. None if a version was not recorded."""
    metadata: Mapping[str, Any]
    findings: Mapping[str, Finding]
    observation: dg.AssetObservation | None = None
    """Observation of the archive. It is recorded before the raw frames."""


class _Reporter:
    """Reports materializations and checks without runs. Each asset is reported after its inputs.

    Days are collected and reported in batches, because recording single events is slow.
    """

    def __init__(self, instance: dg.DagsterInstance, settings: Settings, store: Store) -> None:
        self._instance = instance
        self._settings = settings
        self._store = store
        self._names = DatasetNames(settings.name)
        self._known: dict[str, set[str]] = {}
        self._waiting: list[_Report] = []
        self._days = 0
        self.reported: Counter[str] = Counter()

    def add(self, contents: "DayContents") -> None:
        """Report a day, now or together with later days."""
        day = contents.day
        candidates = [
            *(self._raw(day, part) for part in contents.raw),
            *(self._processed(day, part) for part in contents.processed),
            *([self._shard(day, contents.shard)] if contents.shard else []),
        ]
        self._waiting += [report for report in candidates if report is not None]
        self._days += 1
        if self._days == BATCH_DAYS:
            self.flush()

    def flush(self) -> None:
        """Report the collected days, in the order in which assets are built."""
        record_events(
            self._instance, [r.observation for r in self._waiting if r.observation is not None]
        )
        order = sorted({r.asset for r in self._waiting}, key=daily_assets(self._settings).index)
        for asset in order:
            reports = [r for r in self._waiting if r.asset == asset]
            days = {r.day.isoformat() for r in reports}
            inputs = {name: self._latest_of_days(name, days) for name in reports[0].inputs}
            record_events(self._instance, [self._materialization(r, inputs) for r in reports])
            self.reported[asset] += len(reports)
            targets = self._latest_of_days(asset, days)
            record_events(
                self._instance,
                [
                    evaluation(
                        self._key(asset),
                        name,
                        r.day,
                        finding,
                        as_target(targets[r.day.isoformat()]),
                    )
                    for r in reports
                    for name, finding in r.findings.items()
                ],
            )
        self._waiting = []
        self._days = 0

    def constants(self, constants: "Normalization") -> None:
        """Report the current normalization constants."""
        if self._latest(asset_names.NORMALIZATION) is not None:
            return
        self._report_once(
            asset_names.NORMALIZATION,
            version=constants.version,
            code_version=normalization_code_version(self._settings)
            if constants.method == self._settings.normalization
            else OTHER_SETTINGS,
            inputs=[asset_names.processed(i) for i in self._settings.instruments],
            metadata=constants_metadata(constants)
            | {"constants": path(self._store.locate(layout.normalization(constants.version)))},
        )

    def release(self, version: str) -> None:
        """Report the release that is named after the dataset."""
        if self._latest(asset_names.RELEASE) is not None:
            return
        folder = layout.release_folder(self._settings.name)
        self._report_once(
            asset_names.RELEASE,
            version=version,
            code_version=RELEASE_CODE_VERSION,
            inputs=[asset_names.SHARDS],
            metadata={"release": path(self._store.locate(folder))},
        )

    def _raw(self, day: date, part: "StoredFrames") -> _Report | None:
        asset = asset_names.raw(part.instrument)
        if self._is_known(asset, day):
            return None
        metadata = self._coverage(part)
        available = availability(metadata["frames_expected"], metadata["frames_ok"])
        ledger = path(self._store.locate(layout.raw_ledger(day, part.instrument)))
        return _Report(
            asset,
            day,
            version=content_hash(part.content),
            code_version=raw_code_version(part.instrument, self._settings)
            if part.as_configured
            else OTHER_SETTINGS,
            inputs={asset_names.archive(part.instrument): None},
            metadata=metadata | {"ledger": ledger},
            findings={},
            observation=observation(self._settings, part.instrument, day, available),
        )

    def _processed(self, day: date, part: "StoredFrames") -> _Report | None:
        asset = asset_names.processed(part.instrument)
        if self._is_known(asset, day):
            return None
        frames = path(self._store.locate(layout.processed_folder(day)))
        return _Report(
            asset,
            day,
            version=content_hash(part.content),
            code_version=processed_code_version(part.instrument, self._settings)
            if part.as_configured
            else OTHER_SETTINGS,
            inputs={asset_names.raw(part.instrument): None},
            metadata=self._coverage(part) | {"frames": frames},
            findings=self._findings(day, processed_checks(part.instrument, self._settings)),
        )

    def _shard(self, day: date, shard: "StoredShard") -> _Report | None:
        if self._is_known(asset_names.SHARDS, day):
            return None
        index = shard.index
        version = content_hash(index.shard_sha256.encode())
        return _Report(
            asset_names.SHARDS,
            day,
            version=version,
            code_version=shards_code_version(self._settings)
            if shard.as_configured
            else OTHER_SETTINGS,
            inputs={
                **{asset_names.processed(i): None for i in self._settings.instruments},
                asset_names.NORMALIZATION: index.normalization_version,
            },
            metadata={
                CONTENT: version,
                "frames": index.table.num_rows,
                "size_MiB": number(index.shard_bytes / 2**20),
                "sha256": index.shard_sha256,
                "normalization_version": index.normalization_version,
                "shard": path(self._store.locate(layout.shard(day))),
                "index": path(self._store.locate(layout.shard_index(day))),
            },
            findings=self._findings(day, SHARD_CHECKS),
        )

    def _materialization(
        self, report: _Report, inputs: Mapping[str, Mapping[str, EventLogRecord]]
    ) -> dg.AssetMaterialization:
        day = report.day.isoformat()
        used = {}
        for name, known in report.inputs.items():
            latest = Input.of(inputs[name].get(day) or inputs[name].get(NO_DAY))
            used[self._key(name)] = Input(known or latest.version, latest.storage_id)
        return dg.AssetMaterialization(
            self._key(report.asset),
            partition=day,
            metadata={"adopted": True, **report.metadata},
            tags=version_tags(report.version, report.code_version, used),
        )

    def _report_once(
        self,
        asset: str,
        *,
        version: str,
        code_version: str,
        inputs: Sequence[str],
        metadata: Mapping[str, Any],
    ) -> None:
        """Report an asset without partitions."""
        used = {self._key(name): Input.of(self._latest(name)) for name in inputs}
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(
                self._key(asset),
                metadata={"adopted": True, **metadata},
                tags=version_tags(version, code_version, used),
            )
        )
        self.reported[asset] += 1

    def _coverage(self, part: "StoredFrames") -> dict[str, Any]:
        names = [channel.name for channel in self._settings.channels_of(part.instrument)]
        return coverage_metadata(part.rows, names) | {CONTENT: content_hash(part.content)}

    def _findings(self, day: date, checks: DayChecks) -> dict[str, Finding]:
        return {
            name: judged(check, self._store, day, self._settings)
            for name, check in checks.items()
            if not check.reads_pixels
        }

    def _is_known(self, asset: str, day: date) -> bool:
        """Return whether Dagster has recorded a materialization of the day."""
        if asset not in self._known:
            self._known[asset] = self._instance.get_materialized_partitions(self._key(asset))
        return day.isoformat() in self._known[asset]

    def _latest(self, asset: str) -> EventLogRecord | None:
        return self._instance.get_latest_data_version_record(self._key(asset))

    def _latest_of_days(self, asset: str, days: set[str]) -> Mapping[str, EventLogRecord]:
        """Return the latest record of each day, or of the asset if it has no partitions."""
        if asset == asset_names.NORMALIZATION:
            record = self._latest(asset)
            return {} if record is None else {NO_DAY: record}
        observed = asset.startswith(f"{asset_names.POOL}_")
        return latest_of_days(self._instance, self._key(asset), days, observed=observed)

    def _key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey(self._names.key(asset))
