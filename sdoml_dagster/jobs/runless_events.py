"""Record many asset events without a run, in a few transactions.

Dagster's ``report_runless_asset_event`` opens its SQLite databases several times for each event,
and SQLAlchemy compiles every statement each time. Thousands of events would take an hour.
"""

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy
from dagster._core.events import AssetObservationData, StepMaterializationData
from dagster._core.instance.utils import RUNLESS_JOB_NAME, RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy.engine import Connection

AssetEvent = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation

_BUSY_TIMEOUT = 60
"""Seconds to wait while another process writes to the same database."""


def record_events(instance: dg.DagsterInstance, events: Iterable[AssetEvent]) -> None:
    """Record events in order, as repeated calls of ``report_runless_asset_event`` would.

    On SQLite, all events are written in one transaction. On PostgreSQL, Dagster writes all
    materializations of an asset in one statement.
    """
    entries = [_entry(event) for event in events]
    storage = instance.event_log_storage
    if type(storage) is not SqliteEventLogStorage:
        _store(storage, entries)
    elif entries:
        folder = Path(storage.path_for_shard(RUNLESS_RUN_ID)).parent
        with _SingleTransaction(str(folder)).transaction() as single:
            _store(single, entries)


def _store(storage: Any, entries: Iterable[dg.EventLogEntry]) -> None:
    for (kind, _), group in itertools.groupby(entries, key=_kind_and_asset):
        if (
            kind == dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ):  # Dagster cannot record these in batches
            for entry in group:
                storage.store_event(entry)
        else:
            storage.store_event_batch(list(group))


def _kind_and_asset(entry: dg.EventLogEntry) -> tuple[dg.DagsterEventType, dg.AssetKey | None]:
    event = entry.get_dagster_event()
    return event.event_type, event.asset_key


def _entry(event: AssetEvent) -> dg.EventLogEntry:
    data: Any = event
    kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
    if isinstance(event, dg.AssetMaterialization):
        kind, data = dg.DagsterEventType.ASSET_MATERIALIZATION, StepMaterializationData(event)
    elif isinstance(event, dg.AssetObservation):
        kind, data = dg.DagsterEventType.ASSET_OBSERVATION, AssetObservationData(event)
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=logging.INFO,
        user_message="",
        run_id=RUNLESS_RUN_ID,
        timestamp=time.time(),
        job_name=RUNLESS_JOB_NAME,
        dagster_event=dg.DagsterEvent(kind.value, RUNLESS_JOB_NAME, event_specific_data=data),
    )


class _SingleTransaction(SqliteEventLogStorage):
    """SQLite storage for the same folder that keeps its connections open during a transaction."""

    _stack: contextlib.ExitStack

    @contextlib.contextmanager
    def transaction(self) -> Iterator["_SingleTransaction"]:
        """Commit all events at the end, or none after an error."""
        self._connections: dict[str, Connection] = {}
        self._answers: dict[tuple[str, str], bool] = {}
        with contextlib.ExitStack() as self._stack:
            # When the stack is closed, the index is committed last, because Dagster shows the
            # events in the index.
            with self.index_connection():
                pass
            yield self

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        if shard not in self._connections:
            with super()._connect(shard):
                pass  # this creates the database if it does not exist
            engine = sqlalchemy.create_engine(
                self.conn_string_for_shard(shard),
                poolclass=sqlalchemy.pool.NullPool,
                connect_args={"timeout": _BUSY_TIMEOUT},
            )
            self._stack.callback(engine.dispose)
            self._connections[shard] = self._stack.enter_context(engine.begin())
        yield self._connections[shard]

    def has_table(self, table_name: str) -> bool:
        inspect = super().has_table
        return self._once(("table", table_name), lambda: inspect(table_name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        inspect = super()._has_asset_key_col_on_connection
        return self._once(("column", column_name), lambda: inspect(conn, column_name))

    def _once(self, question: tuple[str, str], answer: Callable[[], bool]) -> bool:
        if question not in self._answers:
            self._answers[question] = answer()
        return self._answers[question]
