"""Raw frames, as the archive serves them, and a ledger of what it did not have."""

from typing import Any

import dagster as dg

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_dagster import asset_names
from sdoml_dagster.assets.data_versions import DayContents
from sdoml_dagster.assets.options import code_version, daily
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.partitions import run_days
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import column_schema, coverage_metadata

DESCRIPTIONS: dict[Instrument, str] = {
    "AIA": """Synoptic images of the Atmospheric Imaging Assembly, as the JSOC serves them.

Source: the JSOC's AIA synoptic tree, 1024×1024 FITS (RICE), published a week after observation.
Cadence: of the archive's 2 minutes, the minute paired with each slot; where it is absent or of
bad quality, the nearest good one within `SDOML_AIA_TOLERANCE_MINUTES`.
Volume: about 1.1 MB per frame, 0.7 GB per day for seven channels at 15 minutes.""",
    "HMI": """Line-of-sight magnetograms of the Helioseismic and Magnetic Imager.

Source: the JSOC's HMI image catalog, 1024×1024 JPG, named by TAI.
Cadence: 15 minutes.
Volume: about 0.4 MB per frame, 37 MB per day.""",
}


def build_raw_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """``raw_aia`` and ``raw_hmi``."""
    return [_raw_asset(instrument, settings) for instrument in INSTRUMENTS]


def _raw_asset(instrument: Instrument, settings: Settings) -> dg.AssetsDefinition:
    channels = [channel.name for channel in settings.channels_of(instrument)]
    recipe: dict[str, object] = {}
    if instrument == "AIA":
        recipe["tolerance"] = settings.aia_tolerance_minutes
        recipe["missing"] = settings.max_missing_fraction

    @dg.asset(
        name=asset_names.raw(instrument),
        description=DESCRIPTIONS[instrument],
        group_name="raw",
        kinds={"fits" if instrument == "AIA" else "image", "parquet"},
        pool="jsoc",
        code_version=code_version(
            "2",
            channels=",".join(channels),
            cadence=settings.cadence_minutes,
            **recipe,
        ),
        metadata={"dagster/column_schema": column_schema(RAW_LEDGER)},
        **daily(settings),
    )
    def raw(
        context: dg.AssetExecutionContext, store: StoreResource, archive: ArchiveResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pipeline.fetch import fetch_day

        contents = DayContents(context)
        with failures_explained(), archive.client(instrument) as client:
            opened = store.open()
            for day in run_days(context):
                outcome = fetch_day(
                    day,
                    instrument,
                    settings=settings,
                    store=opened,
                    client=client,
                    report=context.log.info,
                )
                if outcome.warning:
                    context.log.warning(outcome.warning)
                metadata = {
                    **coverage_metadata(outcome.rows, channels),
                    "fetched_files": outcome.fetched_files,
                    "fetched_MiB": outcome.fetched_bytes / 2**20,
                    "ledger": opened.locate(layout.raw_ledger(day, instrument)),
                }
                contents.add(day, outcome.content, metadata)
        return contents.result()

    return raw
