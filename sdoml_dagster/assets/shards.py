"""Shards: one WebDataset tar file and one index per day, with values in [0, 1].

Members are named `YYYY/MM/DD/HHMM.AIA_0193.npy` (or `.fits` in a compact encoding), so that the
channels of a slot form one sample. If a channel is missing, the sample has no member for it. The
same inputs and settings give the same bytes on any machine.

Volume: 0.8 GB per day for eight channels at 512×512 in float32, half of that in float16.
"""

from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_core.channels import parse_channels
from sdoml_dagster import asset_names
from sdoml_dagster.assets.automation import shards_condition
from sdoml_dagster.assets.build_days import build_days
from sdoml_dagster.assets.data_versions import DayResults
from sdoml_dagster.assets.options import code_version, daily
from sdoml_dagster.formatting import counted
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import column, number, path, picture

if TYPE_CHECKING:
    from sdoml_core.formats.index import Index


INDEX_COLUMNS = {
    "slot": "Time of the slot (UTC).",
    "channel": "Name of the channel.",
    "member": "Path of the member in the tar file.",
    "offset": "Offset of the member in the shard, in bytes.",
    "size": "Size of the member in bytes.",
    "data_offset": "Offset of the pixels or compressed pixels in the shard, in bytes.",
    "crc32": "CRC-32 of the data.",
    "dtype": "Data type of the stored pixels.",
    "resolution": "Width and height of the frame in pixels.",
    "observed": "Time of the observation (UTC).",
    "exposure": "Exposure time in seconds.",
    "quality": "QUALITY of the raw frame.",
    "rsun_obs": "Apparent solar radius in arcseconds.",
    "degradation": "Degradation factor by which the frame was divided.",
    "constant": "Constant c of the transform.",
    "transform": "Transform of the pixels: sqrt is y = √(min(x, c)/c), linear is y = x/c.",
    "flags": "Flags of the frame, as a sum of powers of 2.",
    "missing": "Number of pixels without data in the raw frame.",
    "center_x": "Measured center of the disk, in pixels right of the middle.",
    "center_y": "Measured center of the disk, in pixels below the middle.",
    "radius": "Measured radius of the disk in pixels.",
    "visible": "Fraction of the disk that is not dark.",
    "sky": "Brightness of the sky relative to the disk.",
    "brightness": "Brightness relative to the neighboring frames.",
    "similarity": "Correlation with the neighboring frames.",
    "holes": "Positions of the pixels without data.",
    "mean": "Mean pixel value of the processed frame.",
    "saturated": "Fraction of pixels that are 1 after normalization.",
    "encoding": "Compact encoding; empty for npy.",
    "step": "Quantization step of a compact frame: y is step times the stored integer.",
    "data_size": "Size of a compact frame's data in bytes.",
}
"""Descriptions of the index columns, for Dagster's catalog."""


def index_columns(index: "Index") -> dg.TableSchema:
    """Return the column schema of a shard's index."""
    return dg.TableSchema(
        [
            column(field.name, str(field.type), INDEX_COLUMNS.get(field.name, ""))
            for field in index.table.schema
        ]
    )


def shards_code_version(settings: Settings) -> str:
    """Return the code version of ``shards``."""
    encoding = {} if settings.encoding == "npy" else {"encoding": settings.encoding}
    return code_version("2", dtype=settings.dtype, case=settings.member_case, **encoding)


def build_shards_asset(settings: Settings) -> dg.AssetsDefinition:
    """Build the asset ``shards``."""
    channels = parse_channels(settings.channels)
    processed = [asset_names.processed(instrument) for instrument in settings.instruments]
    version = shards_code_version(settings)

    @dg.asset(
        description=__doc__,
        kinds={"webdataset", "parquet"},
        code_version=version,
        automation_condition=shards_condition(settings),
        **daily(
            settings,
            asset_names.SHARDS,
            deps=[*processed, asset_names.NORMALIZATION],
        ),
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

        def build(day: date, results: DayResults) -> None:
            opened = store.open()
            if results.is_empty:
                constants = needed_normalization(opened)
                context.log.info(
                    f"shards: using constants {constants.version}, fitted to "
                    f"{counted(constants.days, 'day')} from {constants.first_day} to "
                    f"{constants.last_day}"
                )
            outcome = pack_day(
                day,
                settings=settings,
                store=opened,
                report=results.report,
                code_version=version,
            )
            index = outcome.index

            def draw() -> dg.MetadataValue | None:
                stored = StoredDay(opened, day)
                sheet = shard_contact_sheet(stored, index, channels, tile=INLINE_TILE)
                return picture(sheet, f"Shard of {day}")

            saturated = saturated_fractions(opened, day, settings)
            metadata = {
                "frames": sum(outcome.frames.values()),
                "complete_samples": outcome.complete,
                **{f"saturated_{name}": number(value) for name, value in saturated.items()},
                "size_MiB": number(index.shard_bytes / 2**20),
                "sha256": index.shard_sha256,
                "normalization_version": index.normalization_version,
                "shard": path(opened.locate(layout.shard(day))),
                "index": path(opened.locate(layout.shard_index(day))),
                "dagster/column_schema": index_columns(index),
            }
            results.add(
                day,
                index.shard_sha256.encode(),
                metadata,
                picture=draw,
                unchanged=outcome.unchanged,
            )

        return build_days(context, settings, build)

    return shards
