"""Release: numbered shards with an index of all samples and everything that describes them.

Beside the shards lie the normalisation constants, a coverage table, checksums and a dataset card.
Shards are hard links where the store can, so that a release costs no disk. It is what people
train with: `SDOMLlite`, webdataset, Hugging Face `datasets` and plain tar readers take it as it is.
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
    """Which days a release takes and how it is called."""

    name: str = "sdoml-lite"
    """Of the folder below ``releases/``."""

    prefix: str | None = None
    """Of the shards; the name by default."""

    days_per_shard: int = 1
    """More than 1 writes the shards anew instead of linking them."""

    complete_only: bool = False
    """Keep only samples that have every channel, for readers that need the same members in all."""


def build_release_asset(settings: Settings) -> dg.AssetsDefinition:
    """``release``."""

    @dg.asset(
        deps=["shards"],
        description=__doc__,
        group_name="release",
        kinds={"webdataset", "parquet", "markdown"},
        code_version="1",
        owners=OWNERS,
        retry_policy=retry_policy(settings),
    )
    def release(
        context: dg.AssetExecutionContext, config: ReleaseConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        """Publish."""
        from sdoml_dagster.days import list_days
        from sdoml_dagster.previews import coverage_calendar, inline_markdown
        from sdoml_dagster.release.build import ReleaseRequest, publish

        with failures_explained():
            opened = store.open()
            request = ReleaseRequest(
                name=config.name,
                prefix=config.prefix,
                days_per_shard=config.days_per_shard,
                days=config_days(config),
                complete_only=config.complete_only,
            )
            done = publish(request, settings=settings, store=opened, report=context.log.info)
        absent = sorted({count.day for count in done.coverage.counts if count.not_built})
        if absent:
            context.log.warning(
                f"release {request.name}: no shard, and so nothing, of {list_days(absent)}; "
                "run build_shards for it, then make_release again"
            )
        context.log.info(
            f"release {request.name}: {counted(done.card.samples, 'sample')} in "
            f"{counted(len(done.card.shards), 'shard')}, {opened.locate(done.folder)}"
        )
        calendar = coverage_calendar(done.coverage.by_day(), title=f"Coverage of {request.name}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(hashlib.sha256(done.sums).hexdigest()),
            metadata={
                "release": opened.locate(done.folder),
                "shards": len(done.card.shards),
                "samples": done.card.samples,
                "complete_samples": done.card.complete,
                "size_MiB": done.card.bytes / 2**20,
                "normalization_version": done.card.normalization.version,
                "coverage": dg.MetadataValue.md(inline_markdown(calendar, "coverage by day")),
                "card": dg.MetadataValue.md(done.card.markdown()),
            },
        )

    return release
