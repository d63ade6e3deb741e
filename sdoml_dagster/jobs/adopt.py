"""Job ``adopt_store``: tell Dagster what a store already holds.

It reports a materialization of each day that Dagster does not know, with its data version and
metadata, and the checks that need no pixels. It reads no pixels and does not use the network.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

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
from sdoml_dagster.checks.days import DayChecks, evaluation, judged, target
from sdoml_dagster.checks.processed import processed_checks
from sdoml_dagster.checks.shards import SHARD_CHECKS
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.progress import Progress
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_dagster.ui_metadata import coverage_metadata, number, path

if TYPE_CHECKING:
    from sdoml_core.normalization.constants import Normalization
    from sdoml_dagster.maintenance.adopt import StoredFrames, StoredShard

OTHER_SETTINGS = "other settings"
"""Code version of a day that the settings would build differently. It makes the day stale."""


class AdoptConfig(DayRangeConfig):
    """Days of the store to report; all of them by default."""


def build_adopt_job(settings: Settings) -> dg.JobDefinition:
    """Build the job ``adopt_store``."""

    @dg.op(name="adopt", description="Reports the days of the store that Dagster does not know.")
    def adopt(context: dg.OpExecutionContext, config: AdoptConfig, store: StoreResource) -> None:
        from sdoml_dagster.maintenance.adopt import read_dataset, read_days, stored_days

        with failures_explained():
            opened = store.open()
            days = stored_days(settings, opened, config_days(config))
            reporter = _Reporter(context.instance, settings, opened)
            progress = Progress("adopt_store", len(days), context.log.info, unit="days")
            for contents in read_days(settings, opened, days):
                for part in contents.raw:
                    reporter.raw(contents.day, part)
                for part in contents.processed:
                    reporter.processed(contents.day, part)
                if contents.shard is not None:
                    reporter.shard(contents.day, contents.shard)
                for line in contents.damaged:
                    context.log.error(line)
                progress.step("damaged" if contents.damaged else "ok")
            # Last, because Dagster compares the order of these events with that of the days.
            dataset = read_dataset(settings, opened)
            if dataset.constants is not None:
                reporter.constants(dataset.constants)
            if dataset.release_sums is not None:
                reporter.release(dataset.release_sums)
        reported = reporter.reported
        context.log.info(
            f"adopt_store: reported {counted(reported.total(), 'materialization')} from "
            f"{counted(len(days), 'day')} of the store"
        )
        context.add_output_metadata({"days": len(days), **reported})

    @dg.job(
        description="After the loss of Dagster's database, or for a store from elsewhere: report "
        "all days that the store holds. Reads no pixels and fetches nothing."
    )
    def adopt_store() -> None:
        adopt()

    return adopt_store


class _Reporter:
    """Reports materializations and checks without runs, each asset after its inputs."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings, store: Store) -> None:
        self._instance = instance
        self._settings = settings
        self._store = store
        self._names = DatasetNames(settings.name)
        self._known: dict[str, set[str]] = {}
        self.reported: Counter[str] = Counter()

    def raw(self, day: date, part: "StoredFrames") -> None:
        """Report one instrument's raw frames of a day, and how many of them the archive had."""
        asset = asset_names.raw(part.instrument)
        if self._is_known(asset, day):
            return
        metadata = self._coverage(part)
        available = availability(metadata["frames_expected"], metadata["frames_ok"])
        self._instance.report_runless_asset_event(
            observation(self._settings, part.instrument, day, available)
        )
        self._materialized(
            asset,
            day,
            version=content_hash(part.content),
            code_version=raw_code_version(part.instrument, self._settings)
            if part.as_configured
            else OTHER_SETTINGS,
            inputs={asset_names.archive(part.instrument): None},
            metadata=metadata
            | {
                "ledger": path(self._store.locate(layout.raw_ledger(day, part.instrument))),
            },
        )

    def processed(self, day: date, part: "StoredFrames") -> None:
        """Report one instrument's processed frames of a day."""
        asset = asset_names.processed(part.instrument)
        if self._is_known(asset, day):
            return
        self._materialized(
            asset,
            day,
            version=content_hash(part.content),
            code_version=processed_code_version(part.instrument, self._settings)
            if part.as_configured
            else OTHER_SETTINGS,
            inputs={asset_names.raw(part.instrument): None},
            metadata=self._coverage(part)
            | {
                "frames": path(self._store.locate(layout.processed_folder(day))),
            },
        )
        self._checked(asset, day, processed_checks(part.instrument, self._settings))

    def shard(self, day: date, shard: "StoredShard") -> None:
        """Report the shard of a day."""
        if self._is_known(asset_names.SHARDS, day):
            return
        index = shard.index
        version = content_hash(index.shard_sha256.encode())
        self._materialized(
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
        )
        self._checked(asset_names.SHARDS, day, SHARD_CHECKS)

    def constants(self, constants: "Normalization") -> None:
        """Report the current normalization constants."""
        if self._latest(asset_names.NORMALIZATION) is not None:
            return
        self._materialized(
            asset_names.NORMALIZATION,
            None,
            version=constants.version,
            code_version=normalization_code_version(self._settings)
            if constants.method == self._settings.normalization
            else OTHER_SETTINGS,
            inputs={asset_names.processed(i): None for i in self._settings.instruments},
            metadata=constants_metadata(constants)
            | {"constants": path(self._store.locate(layout.normalization(constants.version)))},
        )

    def release(self, version: str) -> None:
        """Report the release with the name of the dataset."""
        if self._latest(asset_names.RELEASE) is not None:
            return
        folder = layout.release_folder(self._settings.name)
        self._materialized(
            asset_names.RELEASE,
            None,
            version=version,
            code_version=RELEASE_CODE_VERSION,
            inputs={asset_names.SHARDS: None},
            metadata={"release": path(self._store.locate(folder))},
        )

    def _materialized(
        self,
        asset: str,
        day: date | None,
        *,
        version: str,
        code_version: str,
        inputs: Mapping[str, str | None],
        metadata: Mapping[str, Any],
    ) -> None:
        """Report a materialization. ``inputs`` has the versions used, if they are recorded."""
        used = {}
        for name, known in inputs.items():
            latest = Input.of(self._latest(name))
            used[self._key(name)] = Input(known or latest.version, latest.storage_id)
        self._instance.report_runless_asset_event(
            dg.AssetMaterialization(
                self._key(asset),
                partition=None if day is None else day.isoformat(),
                metadata={"adopted": True, **metadata},
                tags=version_tags(version, code_version, used),
            )
        )
        self.reported[asset] += 1

    def _coverage(self, part: "StoredFrames") -> dict[str, Any]:
        names = [channel.name for channel in self._settings.channels_of(part.instrument)]
        return coverage_metadata(part.rows, names) | {CONTENT: content_hash(part.content)}

    def _checked(self, asset: str, day: date, checks: DayChecks) -> None:
        key = self._key(asset)
        materialization = target(self._instance, key, day)
        for name, check in checks.items():
            if not check.reads_pixels:
                finding = judged(check, self._store, day, self._settings)
                self._instance.report_runless_asset_event(
                    evaluation(key, name, day, finding, materialization)
                )

    def _is_known(self, asset: str, day: date) -> bool:
        """Return whether Dagster has a materialization of the day."""
        if asset not in self._known:
            self._known[asset] = self._instance.get_materialized_partitions(self._key(asset))
        return day.isoformat() in self._known[asset]

    def _latest(self, asset: str) -> Any:
        external = asset.startswith(f"{asset_names.POOL}_")
        return self._instance.get_latest_data_version_record(self._key(asset), external)

    def _key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey(self._names.key(asset))
