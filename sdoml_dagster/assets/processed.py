"""Processed frames: co-registered, corrected for exposure and degradation, on the common grid."""

import hashlib
from typing import Any

import dagster as dg

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.ledger import FRAME_TABLE
from sdoml_dagster import layout
from sdoml_dagster.assets.common import (
    column_schema,
    coverage_metadata,
    daily,
    failures_explained,
)
from sdoml_dagster.partitions import run_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings import Settings

DESCRIPTIONS: dict[Instrument, str] = {
    "AIA": """AIA frames with the solar radius brought to 976″, divided by exposure time and
instrument degradation, summed to the resolution of the dataset, north up; in DN/s per pixel.

Each channel is one `.npy`, (frames, n, n) float32; the frame table says which slot each frame
belongs to, and the sketch counts its pixel values for the normalisation.
Volume: 1 MiB per frame at 512×512, 0.7 GB per day for seven channels at 15 minutes.""",
    "HMI": """HMI magnetograms on the grid of AIA: the same solar radius and orientation, the label
masked; grey levels in [0, 1], 127/255 is zero field.

One `.npy`, (frames, n, n) float32, with a frame table and a sketch.
Volume: 1 MiB per frame at 512×512, 0.1 GB per day at 15 minutes.""",
}


def build_processed_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """``processed_aia`` and ``processed_hmi``."""
    return [_processed_asset(instrument, settings) for instrument in INSTRUMENTS]


def _processed_asset(instrument: Instrument, settings: Settings) -> dg.AssetsDefinition:
    @dg.asset(
        name=f"processed_{instrument.lower()}",
        deps=[f"raw_{instrument.lower()}"],
        description=DESCRIPTIONS[instrument],
        group_name="processed",
        kinds={"numpy", "numba", "parquet"},
        code_version="1",
        metadata={"dagster/column_schema": column_schema(FRAME_TABLE)},
        **daily(settings),
    )
    def processed(
        context: dg.AssetExecutionContext, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.process import process_day

        content = hashlib.sha256()
        with failures_explained():
            opened = store.open()
            for day in run_days(context):
                outcome = process_day(
                    day, instrument, settings=settings, store=opened, report=context.log.info
                )
                content.update(outcome.content)
                brightness = {
                    f"mean_{name}": sketch.mean
                    for name, sketch in outcome.sketches.items()
                    if sketch.pixels
                }
                context.add_asset_metadata(
                    {
                        **coverage_metadata(outcome.rows, outcome.sketches),
                        **brightness,
                        "frames": opened.locate(layout.processed_folder(day)),
                    },
                    partition_key=day.isoformat(),
                )
        return dg.MaterializeResult(data_version=dg.DataVersion(content.hexdigest()))

    return processed
