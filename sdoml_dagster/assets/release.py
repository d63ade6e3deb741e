"""Release: numbered shards with an index of all samples and a description of the dataset.

The release also contains the normalization constants, a coverage table, checksums and a dataset
card. If the store supports hard links, the shards are hard links and need no extra disk space.
`SDOMLlite`, webdataset, Hugging Face `datasets` and plain tar readers can read the release as is.
"""

import hashlib
from typing import Any, cast

import dagster as dg
from pydantic import Field

from sdoml_core.formats.encoding import Encoding
from sdoml_dagster import asset_names
from sdoml_dagster.assets.automation import release_condition
from sdoml_dagster.assets.options import common, is_last_attempt
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.ui_metadata import number, path

RELEASE_CODE_VERSION = "1"


class ReleaseConfig(DayRangeConfig):
    """Options of a release."""

    name: str | None = Field(
        None,
        description="Name of the release and of its folder below `releases/`. Defaults to the name "
        "of the dataset (SDOML_NAME).",
    )
    prefix: str | None = Field(
        None, description="Prefix of shard file names. Defaults to the name of the release."
    )
    days_per_shard: int = Field(
        1, description="Days per shard. Values above 1 write new shards instead of hard links."
    )
    complete_only: bool = Field(
        default=False,
        description="Release only samples that have every channel, for readers that need the same "
        "members in every sample.",
    )
    splits: str | None = Field(
        None,
        description="Days of each split, both ends included, such as "
        "`train=2010..2018,val=2019,test=2020..2021`.",
    )
    guard: str = Field(
        "0",
        description="Gap between two splits, such as `2d`. These days are removed from the split "
        "that is listed first.",
    )
    any_constants: bool = Field(
        default=False,
        description="Accept constants that were fitted to days outside the training split.",
    )
    encoding: str | None = Field(
        None,
        description=(
            "Encoding of the shards: `npy`, `compact` or `compact-fine`. Defaults to the "
            "encoding of the daily shards. A different encoding writes new shards instead of "
            "hard links."
        ),
    )


def build_release_asset(settings: Settings) -> dg.AssetsDefinition:
    """Build the asset ``release``."""

    @dg.asset(
        description=__doc__,
        kinds={"webdataset", "parquet", "markdown"},
        code_version=RELEASE_CODE_VERSION,
        # `dagster asset materialize --partition-range` requires this for every selected asset.
        backfill_policy=dg.BackfillPolicy.single_run(),
        automation_condition=release_condition(settings),
        **common(settings, asset_names.RELEASE, deps=[asset_names.SHARDS]),
    )
    def release(
        context: dg.AssetExecutionContext, config: ReleaseConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.days import list_days
        from sdoml_dagster.previews import coverage_calendar, inline_markdown
        from sdoml_dagster.release.build import ReleaseRequest, publish
        from sdoml_dagster.release.damaged import refuse_damaged_days
        from sdoml_dagster.release.splits import NO_SPLITS, parse_splits

        with failures_explained(last_attempt=is_last_attempt(context, settings)):
            opened = store.open()
            request = ReleaseRequest(
                name=config.name or settings.name,
                prefix=config.prefix,
                days_per_shard=config.days_per_shard,
                days=config_days(config),
                complete_only=config.complete_only,
                splits=parse_splits(config.splits, guard=config.guard)
                if config.splits
                else NO_SPLITS,
                any_constants=config.any_constants,
                encoding=cast("Encoding | None", config.encoding),
            )
            refuse_damaged_days(opened, request.days)
            done = publish(request, settings=settings, store=opened, report=context.log.info)
        made = done.description
        absent = made.coverage.days_without_shard
        if made.coverage.days_built_in_part:
            context.log.warning(
                f"release {request.name}: some days were built with other settings and are "
                f"incomplete: {list_days(made.coverage.days_built_in_part)}. Run ingest and "
                "build_shards for them, then make_release again"
            )
        if absent:
            context.log.warning(
                f"release {request.name}: some days have no shard and are not included: "
                f"{list_days(absent)}. Run build_shards for them, then make_release again"
            )
        context.log.info(
            f"release {request.name}: {counted(made.samples, 'sample')} in "
            f"{counted(len(made.shards), 'shard')}, {opened.locate(done.folder)}"
        )
        calendar = coverage_calendar(made.coverage.by_day(), title=f"Coverage of {request.name}")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(hashlib.sha256(done.sums).hexdigest()),
            metadata={
                "release": path(opened.locate(done.folder)),
                "shards": len(made.shards),
                "samples": made.samples,
                "complete_samples": made.complete,
                "days_without_shard": len(absent),
                "size_MiB": number(made.bytes / 2**20),
                "normalization_version": made.normalization.version,
                "splits": {split.name: split.samples for split in made.splits},
                "coverage": dg.MetadataValue.md(inline_markdown(calendar, "coverage by day")),
                "card": dg.MetadataValue.md(done.card),
            },
        )

    return release
