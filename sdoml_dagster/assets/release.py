"""Release: numbered shards with an index of all samples and everything that describes them.

A release also has the normalization constants, a coverage table, checksums and a dataset card.
Shards are hard links if the store has them, so a release needs no extra disk. Train with it:
`SDOMLlite`, webdataset, Hugging Face `datasets` and plain tar readers read it as it is.
"""

import hashlib
from typing import Any

import dagster as dg

from sdoml_dagster.assets.options import OWNERS, retry_policy
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings


class ReleaseConfig(DayRangeConfig):
    """Which days a release takes, and its form."""

    name: str = "sdoml-lite"
    """Name of the release and of its folder below ``releases/``."""

    prefix: str | None = None
    """Prefix of shard file names. Defaults to the name."""

    days_per_shard: int = 1
    """More than 1 writes new shards instead of linking the daily ones."""

    complete_only: bool = False
    """Keep only samples that have every channel, for readers that need the same members in all."""

    splits: str | None = None
    """Splits by days, such as ``train=2010..2018,val=2019,test=2020..2021``."""

    guard: str = "0"
    """Gap between two splits in days, such as ``2d``. The split named first loses these days."""

    any_constants: bool = False
    """Accept constants that were fitted to days outside the training split."""


def build_release_asset(settings: Settings) -> dg.AssetsDefinition:
    """``release``."""

    @dg.asset(
        deps=["shards"],
        description=__doc__,
        group_name="release",
        kinds={"webdataset", "parquet", "markdown"},
        code_version="1",
        owners=OWNERS,
        # What `dagster asset materialize --partition-range` requires of every selected asset.
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retry_policy(settings),
    )
    def release(
        context: dg.AssetExecutionContext, config: ReleaseConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        """Publish."""
        from sdoml_dagster.days import list_days
        from sdoml_dagster.previews import coverage_calendar, inline_markdown
        from sdoml_dagster.release.build import ReleaseRequest, publish
        from sdoml_dagster.release.splits import NO_SPLITS, parse_splits

        with failures_explained():
            opened = store.open()
            request = ReleaseRequest(
                name=config.name,
                prefix=config.prefix,
                days_per_shard=config.days_per_shard,
                days=config_days(config),
                complete_only=config.complete_only,
                splits=parse_splits(config.splits, guard=config.guard)
                if config.splits
                else NO_SPLITS,
                any_constants=config.any_constants,
            )
            done = publish(request, settings=settings, store=opened, report=context.log.info)
        made = done.description
        absent = sorted({count.day for count in made.coverage.counts if count.not_built})
        if absent:
            context.log.warning(
                f"release {request.name}: {list_days(absent)} have no shard and are left out; "
                "run build_shards for them, then make_release again"
            )
        context.log.info(
            f"release {request.name}: {counted(made.samples, 'sample')} in "
            f"{counted(len(made.shards), 'shard')}, {opened.locate(done.folder)}"
        )
        calendar = coverage_calendar(made.coverage.by_day(), title=f"Coverage of {request.name}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(hashlib.sha256(done.sums).hexdigest()),
            metadata={
                "release": opened.locate(done.folder),
                "shards": len(made.shards),
                "samples": made.samples,
                "complete_samples": made.complete,
                "size_MiB": made.bytes / 2**20,
                "normalization_version": made.normalization.version,
                "splits": {split.name: split.samples for split in made.splits},
                "coverage": dg.MetadataValue.md(inline_markdown(calendar, "coverage by day")),
                "card": dg.MetadataValue.md(done.card),
            },
        )

    return release
