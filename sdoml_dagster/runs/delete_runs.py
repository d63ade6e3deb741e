"""Delete the records of runs, including files that `DagsterInstance.delete_run` leaves behind."""

from pathlib import Path
from typing import Final

import dagster as dg
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

FINISHED: Final = [
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
]


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a finished run, its events, its captured output and its database file.

    SQLite instances have one database file per run, of 240 KiB or more. Dagster deletes the rows
    but keeps the file, so hundreds of short runs a day would fill the disk.
    """
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(instance.event_log_storage, SqliteEventLogStorage):
        delete_database_file(instance.event_log_storage, run_id)


def delete_database_file(storage: SqliteEventLogStorage, run_id: str) -> None:
    """Delete the file with the events of one run, if there is one."""
    path = Path(storage.path_for_shard(run_id))
    for suffix in ("", "-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
