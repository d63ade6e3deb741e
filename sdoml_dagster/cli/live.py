"""Follow the archive's near-real-time tree in the foreground, without a daemon (`sdoml live`)."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import dagster as dg

from sdoml_core.errors import DamagedFileError, SdomlError
from sdoml_core.formats.parquet import open_parquet, read_columns, timestamps
from sdoml_dagster.cli.display import Line
from sdoml_dagster.cli.errors import CommandError
from sdoml_dagster.cli.runs import InProcess
from sdoml_dagster.formatting import counted
from sdoml_dagster.jobs.live import LIVE_UPDATE
from sdoml_dagster.pipeline.live.run import find_news
from sdoml_dagster.resources import ArchiveResource
from sdoml_dagster.runs.dead_runs import end_dead_runs
from sdoml_dagster.schedules.delete_old_live_runs import delete_old_runs
from sdoml_dagster.schedules.live_update import update_in_progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


@dataclass
class LiveUpdates:
    """Does the work of the schedule in this process."""

    settings: Settings
    store: Store
    instance: dg.DagsterInstance
    runner: InProcess
    say: Callable[[str], None]
    """Receives messages for the user."""
    line: Line
    """Receives the log lines of runs."""

    def follow(self, interval: float) -> NoReturn:
        """Update every ``interval`` seconds, until interrupted."""
        while True:
            began = time.monotonic()
            self.update()
            time.sleep(max(0.0, interval - (time.monotonic() - began)))

    def update(self) -> bool:
        """Check for new frames once, and run the job if there are any.

        Returns
        -------
        Whether the archive responded and the run succeeded.

        Raises
        ------
        CommandError
            If no constants have been fitted.
        """
        if not self.store.exists(layout.CURRENT_NORMALIZATION):
            raise CommandError(
                f"{self.store.locate(layout.CURRENT_NORMALIZATION)} is missing. Live frames need "
                "the normalization constants of a dataset: build a few days with sdoml build first"
            )
        now = datetime.now(UTC)
        end_dead_runs(self.instance)
        delete_old_runs(self.instance, self.settings, before=now)
        if update_in_progress(self.instance, self.settings):
            self.say("another update is in progress")
            return True
        archive = ArchiveResource.of(self.settings)
        clients = {name: archive.client(name) for name in self.settings.instruments}
        try:
            news = find_news(self.settings, self.store, clients, now=now)
        except SdomlError as error:
            self.say(str(error))
            return False
        for outage in news.outages:
            self.say(f"archive unavailable: {outage}")
        if not news:
            return not news.outages
        outcome = self.runner.run_job(LIVE_UPDATE, {}, self.line)
        for text in live_lines(self.store, now=datetime.now(UTC)):
            self.say(text)
        return not outcome.failed


def live_lines(store: Store, *, now: datetime) -> Iterator[str]:
    """Describe the near-real-time window. Yield nothing if the store has none."""
    data = store.read_if_exists(layout.LIVE_INDEX)
    if data is None:
        return
    try:
        table = read_columns(open_parquet(data))
        slots = [slot.replace(tzinfo=UTC) for slot in timestamps(table.column("slot")).tolist()]
    except DamagedFileError as error:
        yield f"live       {store.locate(layout.LIVE_INDEX)}: {error}"
        return
    if not slots:
        yield "live       no slots"
        return
    yield (
        f"live       {counted(len(slots), 'slot')} from {slots[0]:%Y-%m-%d %H:%M} "
        f"to {slots[-1]:%Y-%m-%d %H:%M}"
    )
    newest = []
    for name in table.schema.names[2:]:
        frames = table.column(name).is_valid().to_pylist()
        found = [slot for slot, present in zip(slots, frames, strict=True) if present]
        age = f"{(now - found[-1]).total_seconds() / 60:.0f} min" if found else "none"
        newest.append(f"{name} {age}")
    yield f"age        {', '.join(newest)}"
