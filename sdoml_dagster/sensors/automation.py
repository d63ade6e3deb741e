"""Sensor that evaluates the conditions of declarative automation."""

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.settings.model import Settings


def build_automation_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Build ``automation_sensor`` if ``SDOML_AUTOMATION=declarative``; otherwise return nothing."""
    if settings.automation != "declarative":
        return []
    names = DatasetNames(settings.name)
    keys = [dg.AssetKey(names.key(name)) for name in (asset_names.SHARDS, asset_names.RELEASE)]
    return [
        dg.AutomationConditionSensorDefinition(
            "automation_sensor",
            target=dg.AssetSelection.assets(*keys),
            default_status=dg.DefaultSensorStatus.RUNNING,
            description="Materializes shards when their processed frames change, and releases "
            "weekly.",
        )
    ]
