"""Look up the latest event of many days in two queries. One query per day would cost seconds."""

from collections.abc import Collection, Mapping

import dagster as dg
from dagster._core.event_api import EventLogRecord


def latest_of_days(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    days: Collection[str],
    *,
    observed: bool = False,
) -> Mapping[str, EventLogRecord]:
    """Return the latest materialization, or observation, of each of the days that has one."""
    event_type = (
        dg.DagsterEventType.ASSET_OBSERVATION
        if observed
        else dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    if not days:
        return {}
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, event_type, set(days)
    )
    if not ids:
        return {}
    fetch = instance.fetch_observations if observed else instance.fetch_materializations
    records = fetch(
        dg.AssetRecordsFilter(asset, storage_ids=list(ids.values())), limit=len(ids)
    ).records
    return {record.partition_key: record for record in records if record.partition_key}
