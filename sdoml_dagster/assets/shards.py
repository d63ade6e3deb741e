"""Shards: one WebDataset tar per day with an index beside it, values in [0, 1].

Members are `YYYY/MM/DD/HHMM.AIA_0193.npy`, so that the channels of a slot form one sample; a
channel that is missing is a missing member. The same inputs and settings give the same bytes on
any machine.

Volume: 0.8 GB per day for eight channels at 512×512 in float32, half of it in float16.
"""

import hashlib
from typing import Any

import dagster as dg

from sdoml_dagster import layout
from sdoml_dagster.assets.common import daily, failures_explained
from sdoml_dagster.partitions import run_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings import Settings


def build_shards_asset(settings: Settings) -> dg.AssetsDefinition:
    """``shards``."""

    @dg.asset(
        deps=["processed_aia", "processed_hmi", "normalization_stats"],
        description=__doc__,
        group_name="shards",
        kinds={"webdataset", "parquet"},
        code_version="1",
        **daily(settings),
    )
    def shards(
        context: dg.AssetExecutionContext, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pack import pack_day

        content = hashlib.sha256()
        with failures_explained():
            opened = store.open()
            for day in run_days(context):
                outcome = pack_day(day, settings=settings, store=opened, report=context.log.info)
                content.update(outcome.summary.sha256.encode())
                context.add_asset_metadata(
                    {
                        "frames": sum(outcome.frames.values()),
                        "complete_samples": outcome.complete,
                        "size_MiB": outcome.summary.bytes / 2**20,
                        "sha256": outcome.summary.sha256,
                        "normalization_version": outcome.normalization_version,
                        "shard": opened.locate(layout.shard(day)),
                        "index": opened.locate(layout.shard_index(day)),
                    },
                    partition_key=day.isoformat(),
                )
        return dg.MaterializeResult(data_version=dg.DataVersion(content.hexdigest()))

    return shards
