"""External assets that represent the archive trees.

Dagster does not build them. They show where the raw frames come from. Each day has an observation
that reports how many frames the archive had and which slots were requested. The requested slots are
the day's data version. If the dataset's range is extended within a day, the data version of that
day changes, and
Dagster shows the day's raw frames as stale.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.event_api import EventLogRecord

from sdoml_core.channels import Instrument
from sdoml_dagster import asset_names
from sdoml_dagster.archive.address import public
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.assets.options import OWNERS
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.ui_metadata import number

DESCRIPTIONS: dict[Instrument, str] = {
    "AIA": """The AIA synoptic tree of the JSOC (Stanford), the source of the raw AIA frames.

1024×1024 FITS images at a cadence of 2 minutes, published about a week after the exposure.
The observation event of each day shows how many of the requested frames the archive had.""",
    "HMI": """The HMI image catalog of the JSOC (Stanford), the source of the raw HMI frames.

1024×1024 JPG magnetograms at a cadence of 15 minutes.
The observation event of each day shows how many of the requested frames the archive had.""",
}


def build_archive_assets(settings: Settings) -> list[dg.AssetSpec]:
    """Build ``jsoc_aia`` and ``jsoc_hmi``, for the instruments that the dataset uses."""
    return [_archive_asset(instrument, settings) for instrument in settings.instruments]


def _archive_asset(instrument: Instrument, settings: Settings) -> dg.AssetSpec:
    names = DatasetNames(settings.name)
    roots = settings.aia_roots if instrument == "AIA" else settings.hmi_roots
    shown = [public(root) for root in roots]
    return dg.AssetSpec(
        names.key(asset_names.archive(instrument)),
        description=DESCRIPTIONS[instrument],
        group_name=names.group,
        owners=OWNERS,
        kinds={"fits" if instrument == "AIA" else "image"},
        partitions_def=daily_partitions(settings),
        metadata={
            f"root_{place}": dg.MetadataValue.url(root) for place, root in enumerate(shown, 1)
        },
    )


def slots_version(settings: Settings, day: date) -> str:
    """Return the data version of a day in the archive, which describes the requested slots."""
    slots = settings.expected_slots(day)
    if not slots:
        return "no slots"
    return f"{slots[0]:%H:%M}-{slots[-1]:%H:%M} every {settings.cadence_minutes} min"


def observation(
    settings: Settings, instrument: Instrument, day: date, metadata: Mapping[str, Any] | None = None
) -> dg.AssetObservation:
    """Create the observation for one day of an archive tree."""
    return dg.AssetObservation(
        DatasetNames(settings.name).key(asset_names.archive(instrument)),
        partition=day.isoformat(),
        metadata={"slots": slots_version(settings, day), **(metadata or {})},
        tags={"dagster/data_version": slots_version(settings, day)},
    )


def repeats(last: EventLogRecord | None, new: dg.AssetObservation) -> bool:
    """Return whether an observation repeats the last one for its day."""
    if last is None or last.asset_observation is None:
        return False
    return (last.asset_observation.metadata, last.asset_observation.tags) == (
        new.metadata,
        new.tags,
    )


def availability(expected: int, found: int) -> dict[str, Any]:
    """Return the metadata of an observation: how many of the requested frames the archive had."""
    share = {"available": number(found / expected)} if expected else {}
    return {"frames_requested": expected, "frames_available": found, **share}
