"""The near-real-time assets: frames and shards of the most recent hours.

They are external assets: the job ``live_update`` records what it published for each hour. One run
processes all hours that have new frames, and these hours may not form a range of partitions. Also,
assets with hourly partitions cannot be part of a run for a day, such as ``dagster asset materialize
--select '*'``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from sdoml_core.channels import parse_channels
from sdoml_core.formats.ledger import FrameRow
from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.data_versions import content_hash
from sdoml_dagster.assets.options import OWNERS
from sdoml_dagster.partitions import hour_key, live_partitions
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.ui_metadata import coverage_metadata, path

FRAMES = """Near-real-time frames, processed like the frames of the dataset.

AIA frames come from the JSOC's near-real-time synoptic tree, 15 to 25 minutes after the exposure.
HMI quick-look images come from the HMI image catalog, about an hour after the exposure. The slots,
the processing and the tolerance are the same as for the dataset. Every frame is flagged as
provisional. Each hour has a table with each frame's observation time, its source, and the time at
which the file was first readable. Frames are kept for `SDOML_LIVE_HOURS` hours. The job
`live_update` records this asset."""

SHARDS = """Near-real-time shards for `LiveDataset`, normalized with the dataset's frozen constants.

There is one shard per slot, and one index for the rolling window of `SDOML_LIVE_HOURS` hours.
Shards never change: if another channel of a slot arrives, the slot gets a new shard. The index is
replaced as a whole. When a definitive day is published, its frames replace the provisional ones.
The job `live_update` records this asset."""


def build_live_assets(settings: Settings) -> list[dg.AssetSpec]:
    """Build ``live_frames`` and ``live_shards``."""
    names = DatasetNames(settings.name)
    frames, shards = (dg.AssetKey(names.key(name)) for name in asset_names.LIVE)
    archive = [dg.AssetKey(names.key(asset_names.archive(i))) for i in settings.instruments]
    constants = dg.AssetKey(names.key(asset_names.NORMALIZATION))
    common: dict[str, Any] = {
        "group_name": names.group,
        "owners": OWNERS,
        "partitions_def": live_partitions(),
    }
    return [
        dg.AssetSpec(
            frames, deps=archive, description=FRAMES, kinds={"numpy", "parquet"}, **common
        ),
        dg.AssetSpec(
            shards,
            deps=[frames, constants],
            description=SHARDS,
            kinds={"webdataset", "parquet"},
            **common,
        ),
    ]


def hour_events(
    settings: Settings, hour: datetime, rows: Sequence[FrameRow], *, table: str, index: str
) -> list[dg.AssetMaterialization]:
    """Return the events that record one hour.

    Parameters
    ----------
    settings
        The dataset's settings.
    hour
        The hour, which is also the partition.
    rows
        Rows in the hour's table.
    table, index
        Locations of the hour's table and of the window's index.
    """
    names = DatasetNames(settings.name)
    channels = [channel.name for channel in parse_channels(settings.channels)]
    fates = [(str(row.slot), row.channel, row.status, row.crc32, row.flags) for row in rows]
    version = content_hash(repr(fates).encode())
    location = {asset_names.LIVE[0]: table, asset_names.LIVE[1]: index}
    return [
        dg.AssetMaterialization(
            dg.AssetKey(names.key(asset)),
            partition=hour_key(hour),
            metadata={**coverage_metadata(rows, channels), "file": path(location[asset])},
            tags={"dagster/data_version": version},
        )
        for asset in asset_names.LIVE
    ]
