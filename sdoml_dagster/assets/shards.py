"""Shards: one WebDataset tar per day with an index beside it, values in [0, 1].

Members are `YYYY/MM/DD/HHMM.AIA_0193.npy`, so that the channels of a slot form one sample; a
channel that is missing is a missing member. The same inputs and settings give the same bytes on
any machine.

Volume: 0.8 GB per day for eight channels at 512×512 in float32, half of it in float16.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_core.channels import parse_channels
from sdoml_dagster.assets.data_versions import DayContents
from sdoml_dagster.assets.options import code_version, daily
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import run_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import picture_metadata

if TYPE_CHECKING:
    from sdoml_core.formats.index import Index


def freshness_policy(settings: Settings) -> dg.FreshnessPolicy | None:
    """A growing dataset gains a shard a day; one with an end is never late."""
    if settings.end is not None:
        return None
    return dg.FreshnessPolicy.time_window(
        warn_window=timedelta(hours=30), fail_window=timedelta(days=3)
    )


def index_columns(index: "Index") -> dg.TableSchema:
    """The columns of the index beside the shard."""
    return dg.TableSchema(
        columns=[dg.TableColumn(field.name, str(field.type)) for field in index.table.schema]
    )


def build_shards_asset(settings: Settings) -> dg.AssetsDefinition:
    """``shards``."""
    channels = parse_channels(settings.channels)
    version = code_version("1", dtype=settings.dtype, case=settings.member_case)

    @dg.asset(
        deps=["processed_aia", "processed_hmi", "normalization_stats"],
        description=__doc__,
        group_name="shards",
        kinds={"webdataset", "parquet"},
        code_version=version,
        freshness_policy=freshness_policy(settings),
        **daily(settings),
    )
    def shards(
        context: dg.AssetExecutionContext, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pipeline.compare_to_fit import saturated_fractions
        from sdoml_dagster.pipeline.contact_sheets import shard_contact_sheet
        from sdoml_dagster.pipeline.frozen_constants import needed_normalization
        from sdoml_dagster.pipeline.pack import pack_day
        from sdoml_dagster.previews import INLINE_TILE
        from sdoml_dagster.store.day import StoredDay

        contents = DayContents(context)
        with failures_explained():
            days = list(run_days(context))
            opened = store.open()
            constants = needed_normalization(opened)
            context.log.info(
                f"shards: using constants {constants.version}, fitted to "
                f"{counted(constants.days, 'day')} from {constants.first_day} to "
                f"{constants.last_day}"
            )
            for day in days:
                outcome = pack_day(
                    day,
                    settings=settings,
                    store=opened,
                    report=context.log.info,
                    code_version=version,
                )
                stored = StoredDay(opened, day)
                index = outcome.index
                sheet = shard_contact_sheet(stored, index, channels, tile=INLINE_TILE)
                saturated = saturated_fractions(opened, day, settings)
                metadata = {
                    **picture_metadata(sheet, f"Shard of {day}"),
                    "frames": sum(outcome.frames.values()),
                    "complete_samples": outcome.complete,
                    **{f"saturated_{name}": value for name, value in saturated.items()},
                    "size_MiB": index.shard_bytes / 2**20,
                    "sha256": index.shard_sha256,
                    "normalization_version": index.normalization_version,
                    "shard": opened.locate(layout.shard(day)),
                    "index": opened.locate(layout.shard_index(day)),
                    "dagster/column_schema": index_columns(index),
                }
                contents.add(day, index.shard_sha256.encode(), metadata)
        return contents.result()

    return shards
