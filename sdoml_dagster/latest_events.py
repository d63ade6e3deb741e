"""Look up the latest events of many days in two queries. One query per day would take seconds."""

from collections.abc import Collection, Mapping, Sequence

import dagster as dg
from dagster._core.event_api import EventLogRecord


def latest_of_days(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    days: Collection[str],
    *,
    observed: bool = False,
) -> Mapping[str, EventLogRecord]:
    """Return the latest materialization (or observation) of each day that has one."""
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


class LatestOfRun:
    """Reads the latest event of each day in a run, with one query for many days.

    Parameters
    ----------
    instance
        Instance that stores the events.
    asset
        Asset whose events are read.
    days
        Days of the run, in the order in which they are needed.
    observed
        Whether to read observations instead of materializations.
    """

    READ_AHEAD = 50

    def __init__(
        self,
        instance: dg.DagsterInstance,
        asset: dg.AssetKey,
        days: Sequence[str],
        *,
        observed: bool = False,
    ) -> None:
        self._instance = instance
        self._asset = asset
        self._days = days
        self._observed = observed
        self._found: dict[str, EventLogRecord | None] = {}

    def get(self, day: str) -> EventLogRecord | None:
        """Return the event of a day, or None if there is no event."""
        if day not in self._found:
            first = self._days.index(day)
            ahead = self._days[first : first + self.READ_AHEAD]
            found = latest_of_days(self._instance, self._asset, ahead, observed=self._observed)
            self._found = {ahead_day: found.get(ahead_day) for ahead_day in ahead}
        return self._found[day]
