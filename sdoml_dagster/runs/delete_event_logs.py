"""Delete the events of old runs that appear only on the run's page.

Log messages and step events take up most of Dagster's storage. Runs, asset events and check results
are kept, because staleness, the asset graph, the checks and the schedules need them.
"""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dagster as dg
import sqlalchemy
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from sdoml_dagster.runs.delete_runs import FINISHED, delete_database_file

DELETED_AT_ONCE: Final = 500
"""Number of runs after which a call stops, so that a tick of the sensor stays short."""


def delete_old_event_logs(instance: dg.DagsterInstance, *, before: datetime) -> int:
    """Delete log messages and step events of runs that ended before a time.

    Parameters
    ----------
    instance
        Instance that stores the runs.
    before
        Timezone-aware time.

    Returns
    -------
    Number of runs whose events were deleted. The next call continues if there are more.
    """
    storage, before = instance.event_log_storage, before.astimezone(UTC)
    if isinstance(storage, SqliteEventLogStorage):
        # Each run has a file with all of its events. The index has copies of the asset events.
        ended = _ended(instance, _old_files(storage, before), before)
        for run_id in ended:
            delete_database_file(storage, run_id)
        return len(ended)
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    events = SqlEventLogStorageTable.c
    of_no_asset = events.asset_key.is_(None)
    old = of_no_asset & (events.timestamp < before.replace(tzinfo=None))
    with storage.index_connection() as connection:
        runs = connection.execute(sqlalchemy.select(events.run_id).where(old).distinct())
        ended = _ended(instance, runs.scalars().all(), before)
        connection.execute(
            sqlalchemy.delete(SqlEventLogStorageTable).where(of_no_asset & events.run_id.in_(ended))
        )
    return len(ended)


def _old_files(storage: SqliteEventLogStorage, before: datetime) -> list[str]:
    """Return the IDs of runs whose file was last changed before a time."""
    found = []
    for run_id in storage.get_all_run_ids():
        with suppress(FileNotFoundError):  # the run has just been deleted
            if Path(storage.path_for_shard(run_id)).stat().st_mtime < before.timestamp():
                found.append(run_id)
    return found


def _ended(instance: dg.DagsterInstance, run_ids: Sequence[str], before: datetime) -> list[str]:
    """Return the runs that ended before a time, up to about `DELETED_AT_ONCE` of them."""
    found: list[str] = []
    for start in range(0, len(run_ids), DELETED_AT_ONCE):  # databases limit the number of values
        if len(found) >= DELETED_AT_ONCE:
            break
        listed = dg.RunsFilter(
            run_ids=list(run_ids[start : start + DELETED_AT_ONCE]),
            statuses=FINISHED,
            updated_before=before,
        )
        found += [run.run_id for run in instance.get_runs(listed)]
    return found
