"""Raw frames, as served by the archive, and a ledger of all expected frames."""

from datetime import date
from typing import Any

import dagster as dg

from sdoml_core.channels import Instrument
from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.archive import availability, observation, repeats
from sdoml_dagster.assets.build_days import build_days
from sdoml_dagster.assets.data_versions import DayResults
from sdoml_dagster.assets.options import code_version, daily, is_last_attempt
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.latest_events import LatestOfRun
from sdoml_dagster.partitions import run_days
from sdoml_dagster.resources import ArchiveResource, StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import column_schema, coverage_metadata, number, path

DESCRIPTIONS: dict[Instrument, str] = {
    "AIA": """Synoptic images from the Atmospheric Imaging Assembly, as served by the JSOC.

Source: the AIA synoptic tree of the JSOC, 1024×1024 FITS (RICE), published about a week after
observation.
Cadence: the archive has a frame every 2 minutes. Each slot uses the frame that is paired with
it. If that frame is missing or has bad quality, the nearest good frame within
`SDOML_AIA_TOLERANCE_MINUTES` is used instead.
Volume: about 1.1 MB per frame, 0.7 GB per day for seven channels at 15 minutes.""",
    "HMI": """Line-of-sight magnetograms from the Helioseismic and Magnetic Imager.

Source: the HMI image catalog of the JSOC, 1024×1024 JPG, with TAI times in the file names.
Cadence: 15 minutes.
Volume: about 0.4 MB per frame, 37 MB per day.""",
}


def build_raw_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """Build ``raw_aia`` and ``raw_hmi``, for the instruments that the dataset uses."""
    return [_raw_asset(instrument, settings) for instrument in settings.instruments]


def raw_code_version(instrument: Instrument, settings: Settings) -> str:
    """Return the code version of a raw asset."""
    recipe: dict[str, object] = {}
    if instrument == "AIA":
        recipe["tolerance"] = settings.aia_tolerance_minutes
        recipe["missing"] = settings.max_missing_fraction
    channels = ",".join(channel.name for channel in settings.channels_of(instrument))
    return code_version(
        "2",
        channels=channels,
        cadence=settings.cadence_minutes,
        **recipe,
    )


def _raw_asset(instrument: Instrument, settings: Settings) -> dg.AssetsDefinition:
    channels = [channel.name for channel in settings.channels_of(instrument)]

    @dg.asset(
        description=DESCRIPTIONS[instrument],
        kinds={"fits" if instrument == "AIA" else "image", "parquet"},
        pool=DatasetNames(settings.name).pool,
        code_version=raw_code_version(instrument, settings),
        metadata={"dagster/column_schema": column_schema(RAW_LEDGER)},
        **daily(
            settings,
            asset_names.raw(instrument),
            deps=[asset_names.archive(instrument)],
        ),
    )
    def raw(
        context: dg.AssetExecutionContext, store: StoreResource, archive: ArchiveResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pipeline.fetch import fetch_day

        explained = failures_explained(last_attempt=is_last_attempt(context, settings))
        with explained, archive.client(instrument) as client:
            opened = store.open()
            source = dg.AssetKey(DatasetNames(settings.name).key(asset_names.archive(instrument)))
            last_observed = LatestOfRun(
                context.instance,
                source,
                [day.isoformat() for day in run_days(context)],
                observed=True,
            )

            def build(day: date, results: DayResults) -> None:
                outcome = fetch_day(
                    day,
                    instrument,
                    settings=settings,
                    store=opened,
                    client=client,
                    report=results.report,
                )
                if outcome.warning:
                    context.log.warning(outcome.warning)
                metadata = coverage_metadata(outcome.rows, channels)
                available = availability(metadata["frames_expected"], metadata["frames_ok"])
                observed = observation(settings, instrument, day, available)
                if not repeats(last_observed.get(day.isoformat()), observed):
                    context.log_event(observed)
                metadata |= {
                    "fetched_files": outcome.fetched_files,
                    "fetched_MiB": number(outcome.fetched_bytes / 2**20),
                    "ledger": path(opened.locate(layout.raw_ledger(day, instrument))),
                }
                results.add(day, outcome.content, metadata)

            result = build_days(context, settings, build)
        # Read the inputs again. Dagster read them when the step began, before the observations were
        # logged.
        context.op_execution_context.get_step_execution_context().fetch_external_input_asset_version_info()
        return result

    return raw
