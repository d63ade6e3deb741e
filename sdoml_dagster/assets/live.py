"""The near-real-time assets: frames and shards of the last hours.

One run takes all hours that have new frames, see ``docs/architecture.md``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from sdoml_core.channels import Instrument, parse_channels
from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.data_versions import content_hash
from sdoml_dagster.assets.options import OWNERS, code_version
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.partitions import hour_key, live_partitions, parse_hour
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import coverage_metadata, path

FRAMES = """Near-real-time frames, processed like those of the dataset.

Source: AIA frames of the near-real-time synoptic tree of the JSOC, 15 to 25 minutes after the
exposure; HMI quick-look images of the catalog, an hour after it. The slots, the processing and the
tolerance are those of the dataset. Every frame is flagged as provisional. The table of an hour has
the time of the observation, the source and the time at which the file was first readable. Frames
are kept for `SDOML_LIVE_HOURS`."""

SHARDS = """Near-real-time shards with the frozen constants of the dataset, for `LiveDataset`.

One shard per slot and one index for the rolling window of `SDOML_LIVE_HOURS`. Shards never change:
a slot of which another channel arrives gets a new shard, and the index is replaced as a whole.
Definitive days replace their provisional frames as they are published."""


def build_live_assets(settings: Settings) -> dg.AssetsDefinition:
    """Build ``live_frames`` and ``live_shards``, which one step makes together."""
    names = DatasetNames(settings.name)
    frames, shards = (dg.AssetKey(names.key(n)) for n in asset_names.LIVE)
    channels = [channel.name for channel in parse_channels(settings.channels)]
    version = code_version(
        "1",
        channels=",".join(channels),
        cadence=settings.cadence_minutes,
        resolution=settings.resolution,
        dtype=settings.dtype,
    )

    @dg.multi_asset(
        name=names.prefixed("live"),
        specs=[
            dg.AssetSpec(
                frames,
                deps=[dg.AssetKey(names.key(asset_names.archive(i))) for i in settings.instruments],
                description=FRAMES,
                group_name=names.group("live"),
                owners=OWNERS,
                kinds={"fits", "numpy", "parquet"},
                code_version=version,
            ),
            dg.AssetSpec(
                shards,
                deps=[frames, dg.AssetKey(names.key(asset_names.NORMALIZATION))],
                description=SHARDS,
                group_name=names.group("live"),
                owners=OWNERS,
                kinds={"webdataset", "parquet"},
                code_version=version,
            ),
        ],
        partitions_def=live_partitions(),
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=names.pool,
        # No retries: the next tick of the schedule requests the same frames again.
    )
    def live(
        context: dg.AssetExecutionContext, store: StoreResource, archive: ArchiveResource
    ) -> Iterator[dg.MaterializeResult[Any]]:
        from sdoml_dagster.pipeline.live.run import update_hours

        instruments: tuple[Instrument, ...] = settings.instruments
        with failures_explained():
            opened = store.open()
            done = update_hours(
                [parse_hour(key) for key in context.partition_keys],
                settings=settings,
                store=opened,
                clients={i: archive.client(i) for i in instruments},
                now=datetime.now(UTC),
                report=context.log.info,
            )
            if done.outage is not None:
                context.log.warning(f"{done.outage}. The next update requests the frames again.")
        for hour, rows in done.rows.items():
            key = hour_key(hour)
            if key not in context.partition_keys:
                continue
            for asset in (frames, shards):
                context.add_asset_metadata(
                    {
                        **coverage_metadata(rows, channels),
                        "table": path(opened.locate(layout.live_table(hour))),
                    },
                    asset_key=asset,
                    partition_key=key,
                )
        content = repr(
            [
                (str(r.slot), r.channel, r.status, r.sha256)
                for rows in done.rows.values()
                for r in rows
            ]
        )
        data_version = dg.DataVersion(content_hash(content.encode()))
        for asset in (frames, shards):
            yield dg.MaterializeResult(
                asset_key=asset,
                data_version=data_version,
                metadata={
                    "new_frames": sum(done.frames.values()),
                    "slots_published": done.slots,
                    "slots_in_window": done.samples,
                    "index": path(opened.locate(layout.LIVE_INDEX)),
                },
            )

    return live
