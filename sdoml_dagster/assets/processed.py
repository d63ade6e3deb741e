"""Processed frames: co-registered, corrected for exposure and degradation, and on a common grid."""

from datetime import date
from typing import Any

import dagster as dg

from sdoml_core.channels import Instrument
from sdoml_core.formats.ledger import FRAME_TABLE
from sdoml_dagster import asset_names
from sdoml_dagster.assets.build_days import build_days
from sdoml_dagster.assets.data_versions import DayResults
from sdoml_dagster.assets.options import code_version, daily
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import (
    column_schema,
    coverage_metadata,
    number,
    path,
    picture,
)

DESCRIPTIONS: dict[Instrument, str] = {
    "AIA": """AIA frames with north up, scaled to a solar radius of 976″, divided by exposure time
and instrument degradation, and summed to the resolution of the dataset. A pixel is the sum of
(1024/n)² samples in DN/s per camera pixel (0.6″).

Each channel is one `.npy` file of shape (frames, n, n), float32. The frame table lists the slot of
each frame. The sketch counts pixel values for the normalization.
Volume: 1 MiB per frame at 512×512, 0.7 GB per day for seven channels at 15 minutes.""",
    "HMI": """HMI magnetograms on the AIA grid, with the same solar radius and orientation, and with
the label masked. Values are gray levels in [0, 1], where 127/255 is zero field.

The frames are one `.npy` file of shape (frames, n, n), float32, with a frame table and a sketch.
Volume: 1 MiB per frame at 512×512, 0.1 GB per day at 15 minutes.""",
}


def build_processed_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Build ``processed_aia`` and ``processed_hmi``, for the instruments that the dataset uses."""
    return [_processed_asset(instrument, settings) for instrument in settings.instruments]


def processed_code_version(instrument: Instrument, settings: Settings) -> str:
    """Return the code version of a processed asset."""
    recipe: dict[str, object] = {"resolution": settings.resolution}
    if instrument == "HMI":
        recipe["scale"] = settings.hmi_scale
        if settings.hmi_values != "level":
            recipe["values"] = settings.hmi_values
    else:
        recipe["missing"] = settings.max_missing_fraction
        recipe["degradation"] = settings.degradation_table or "V9"
    return code_version("2", **recipe)


def _processed_asset(instrument: Instrument, settings: Settings) -> dg.AssetsDefinition:
    channels = settings.channels_of(instrument)
    version = processed_code_version(instrument, settings)

    @dg.asset(
        description=DESCRIPTIONS[instrument],
        kinds={"numpy", "numba", "parquet"},
        code_version=version,
        metadata={"dagster/column_schema": column_schema(FRAME_TABLE)},
        **daily(
            settings,
            asset_names.processed(instrument),
            deps=[asset_names.raw(instrument)],
        ),
    )
    def processed(
        context: dg.AssetExecutionContext, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pipeline.contact_sheets import processed_contact_sheet
        from sdoml_dagster.pipeline.process import process_day
        from sdoml_dagster.previews import INLINE_TILE
        from sdoml_dagster.store.day import StoredDay

        def build(day: date, results: DayResults) -> None:
            opened = store.open()
            outcome = process_day(
                day,
                instrument,
                settings=settings,
                store=opened,
                report=results.report,
                code_version=version,
            )
            brightness = {
                f"mean_{name}": number(sketch.mean)
                for name, sketch in outcome.sketches.items()
                if sketch.pixels
            }

            def draw() -> dg.MetadataValue | None:
                sheet = processed_contact_sheet(
                    StoredDay(opened, day), channels, settings=settings, tile=INLINE_TILE
                )
                return picture(sheet, f"{instrument} on {day}")

            metadata = {
                **coverage_metadata(outcome.rows, [channel.name for channel in channels]),
                **brightness,
                "frames": path(opened.locate(layout.processed_folder(day))),
            }
            results.add(day, outcome.content, metadata, picture=draw, unchanged=outcome.unchanged)

        return build_days(context, settings, build)

    return processed
