"""Asset jobs, which can be backfilled, scheduled or launched manually."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.normalization import FitConfig
from sdoml_dagster.assets.release import ReleaseConfig
from sdoml_dagster.jobs.launchpad import default_run_config
from sdoml_dagster.settings.model import Settings

INGEST = "ingest"
DAILY_UPDATE = "daily_update"
BUILD_SHARDS = "build_shards"
DATASET_TAG = "sdoml/dataset"
"""Tag with the name of the dataset, on all runs of these jobs."""


def daily_assets(settings: Settings) -> list[str]:
    """Return the names of the daily assets in build order, without the prefix."""
    return [*_ingested(settings), asset_names.SHARDS]


def build_asset_jobs(settings: Settings) -> list[UnresolvedAssetJobDefinition]:
    """Build the asset jobs, from ``ingest`` to ``make_release``."""
    return [
        _job(
            settings,
            INGEST,
            _ingested(settings),
            "Fetch and process days. This is the first step of a build.",
        ),
        _job(
            settings,
            "fit_normalization",
            [asset_names.NORMALIZATION],
            "Fit the normalization constants to the processed days and freeze them.",
            config=default_run_config(_op(settings, asset_names.NORMALIZATION), FitConfig),
        ),
        _job(
            settings,
            BUILD_SHARDS,
            [asset_names.SHARDS],
            "Pack processed days into shards, with the frozen constants.",
        ),
        _job(
            settings,
            DAILY_UPDATE,
            daily_assets(settings),
            "Build one day's shard from the archive, with the frozen constants.",
        ),
        _job(
            settings,
            "make_release",
            [asset_names.RELEASE],
            "Make a release for training, with numbered shards, an index and a dataset card.",
            config=default_run_config(_op(settings, asset_names.RELEASE), ReleaseConfig),
        ),
    ]


def _ingested(settings: Settings) -> list[str]:
    raw = [asset_names.raw(instrument) for instrument in settings.instruments]
    return raw + [asset_names.processed(instrument) for instrument in settings.instruments]


def _op(settings: Settings, asset: str) -> str:
    return "__".join(DatasetNames(settings.name).key(asset))


def _job(
    settings: Settings,
    name: str,
    assets: Sequence[str],
    description: str,
    config: dict[str, Any] | None = None,
) -> UnresolvedAssetJobDefinition:
    names = DatasetNames(settings.name)
    # Use selection objects, because strings need the selection parser, which is slow to import.
    keys = [dg.AssetKey(names.key(asset)) for asset in assets]
    return dg.define_asset_job(
        name,
        selection=dg.AssetSelection.assets(*keys),
        description=description,
        config=config,
        tags={DATASET_TAG: settings.name},
    )
