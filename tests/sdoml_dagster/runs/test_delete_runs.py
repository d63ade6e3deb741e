"""Deleting a run's records leaves no files or rows."""

import sqlite3

import dagster as dg

from sdoml_dagster.runs.delete_runs import delete_run


@dg.asset
def noisy(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    print("captured")
    return dg.MaterializeResult(tags={"kind": "test"})


def rows_with(database, run_id):
    """Count the rows that mention a run in any table of a database."""
    with sqlite3.connect(database) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return sum(
            run_id in repr(row)
            for (table,) in tables.fetchall()
            for row in connection.execute(f"SELECT * FROM {table}")
        )


def test_deleting_a_run_leaves_nothing_behind(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        kept, deleted = (dg.materialize([noisy], instance=instance).run_id for _ in range(2))
        delete_run(instance, deleted)
        assert not [path for path in tmp_path.rglob("*") if deleted in str(path)]
        assert [path for path in tmp_path.rglob("*.db") if kept in str(path)]
        databases = [path for path in tmp_path.rglob("*.db") if kept not in path.name]
        counts = {path.name: rows_with(path, deleted) for path in databases}
        assert "index.db" in counts
        # Dagster keeps the ID of each asset's last run.
        assert sum(counts.values()) <= 1, counts
        assert instance.get_run_by_id(kept)
        assert len(instance.fetch_materializations(noisy.key, limit=9).records) == 1
    with dg.DagsterInstance.local_temp(str(tmp_path)) as other:
        delete_run(other, deleted)  # simulates another scheduler that had found the run earlier
        assert not [path for path in tmp_path.rglob("*") if deleted in str(path)]
