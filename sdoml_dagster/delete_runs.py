"""Delete the records of runs, including files that `DagsterInstance.delete_run` leaves behind."""

from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage


def delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a finished run, its events, its captured output and its database file.

    SQLite instances have one database file per run, of 240 KiB or more. Dagster deletes the rows
    but keeps the file, so hundreds of short runs a day would fill the disk.
    """
    instance.delete_run(run_id)
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    events = instance.event_log_storage
    if isinstance(events, SqliteEventLogStorage):
        path = Path(events.path_for_shard(run_id))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
