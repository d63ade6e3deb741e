"""Settings of a small deployment, and a function that runs assets on a real instance."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg

from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from sdoml_demo.server import Archive

SMALL = {
    "SDOML_START": "2024-03-01",
    "SDOML_CADENCE_MINUTES": "360",
    "SDOML_CHANNELS": "AIA_0171,AIA_1700,HMI_M",
    "SDOML_RESOLUTION": "64",
    "SDOML_THREADS": "2",
    "SDOML_ATTEMPTS": "2",
    "SDOML_RETRY_DELAY": "0",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
"""Four samples per day with three channels. Building such a day takes about a second."""

DAILY = ("raw_aia", "raw_hmi", "processed_aia", "processed_hmi", "shards")
Materialize = Callable[..., dg.ExecuteInProcessResult]


FIRST, SECOND = "2024-03-08", "2024-03-09"
"""Days that the fixture `built` has."""


def small_environment(folder: Path, archive: Archive, **settings: str) -> dict[str, str]:
    """Return the environment of a small deployment in a folder.

    Parameters
    ----------
    folder
        Folder for the store and the Dagster home.
    archive
        Archive that the deployment fetches from.
    settings
        Settings in lowercase and without the prefix. They override those in `SMALL`.
    """
    return (
        SMALL
        | {
            "SDOML_STORE": str(folder / "store"),
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "DAGSTER_HOME": str(folder / "dagster"),
        }
        | {f"SDOML_{name.upper()}": value for name, value in settings.items()}
    )


def run_assets(
    instance: dg.DagsterInstance,
    *names: str,
    day: str | None = None,
    days: tuple[str, str] | None = None,
    config: dict[str, Any] | None = None,
    **overrides: Any,
) -> dg.ExecuteInProcessResult:
    """Run assets and their checks for one day, for a range of days, or without a day."""
    tags = {}
    if days is not None:
        tags = {
            "dagster/asset_partition_range_start": days[0],
            "dagster/asset_partition_range_end": days[1],
        }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=DeprecationWarning)
        settings = Settings.load(**overrides)
        keys = DatasetNames(settings.name)
        job = build_defs(settings).resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            asset_selection=[dg.AssetKey(keys.key(name)) for name in names],
            partition_key=day,
            tags=tags,
            instance=instance,
            raise_on_error=False,
            run_config={"ops": config} if config else None,
        )
