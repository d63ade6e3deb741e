"""Describe the content of a store and the remaining work, for `sdoml status` and `sdoml build`."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.ledger import RawRow
from sdoml_dagster.cli.coverage import coverage_table
from sdoml_dagster.cli.live import live_lines
from sdoml_dagster.cli.plan import announce, days_to_build
from sdoml_dagster.days import list_days
from sdoml_dagster.formatting import counted, size_text
from sdoml_dagster.pipeline.completeness import days_due
from sdoml_dagster.pipeline.degradation_table import load_degradation
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.pipeline.unchanged import is_finished
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

STATES = {
    "finished": "finished, with an up-to-date shard",
    "stale": "outdated, because inputs, settings, constants or code changed",
    "fetched": "fetched at least in part, but without a shard",
    "absent": "not fetched",
}
"""Descriptions of the states of a day in `sdoml status`."""

FOLDERS = ("raw", "processed", "shards", "releases")


def status_lines(
    settings: Settings, store: Store, code_versions: Mapping[str, str]
) -> Iterator[str]:
    """Yield lines about days by state, size, constants, releases, the schedule and coverage."""
    constants = current_normalization(store)
    degradation = load_degradation(settings, store).sha256
    states: dict[str, list[date]] = {name: [] for name in STATES}
    counts: dict[str, Counter[str]] = {name: Counter() for name in settings.channels}
    shards = layout.shard_files(store)
    days = days_to_build(settings)
    for day in days:
        stored = StoredDay(store, day)
        done = constants is not None and is_finished(
            stored, settings, constants, code_versions=code_versions, degradation=degradation
        )
        ledgers = [
            row
            for instrument in INSTRUMENTS
            if settings.channels_of(instrument)
            for row in _ledger(stored, instrument)
        ]
        if done:
            states["finished"].append(day)
        elif day in shards:
            states["stale"].append(day)
        else:
            states["fetched" if ledgers else "absent"].append(day)
        slots = len(settings.expected_slots(day))
        for name, count in counts.items():
            count["expected"] += slots
            count.update(row.status for row in ledgers if row.channel == name)
    yield f"store      {store.locate('')}"
    yield f"range      {days[0]} to {days[-1]}, {counted(len(days), 'day')}"
    for state, found in states.items():
        if found:
            yield f"days       {len(found):,} {STATES[state]} ({list_days(found)})"
    yield f"constants  {announce(constants) if constants else 'none fitted yet'}"
    sizes = ", ".join(f"{name} {size_text(size)}" for name, size in folder_sizes(settings).items())
    if sizes:
        yield f"size       {sizes} (hard links are counted once)"
    for name in store.folders("releases"):
        yield f"release    {store.locate(layout.release_folder(name))}"
    yield f"schedule   {_schedule(settings, store, fitted=constants is not None)}"
    yield from live_lines(store, now=datetime.now(UTC))
    yield ""
    yield from coverage_table(counts)


def folder_sizes(settings: Settings) -> dict[str, int]:
    """Return the size of each folder in a local store. Hard links to a file count once."""
    if "://" in settings.store:
        return {}
    seen: set[tuple[int, int]] = set()
    sizes = {}
    for name in FOLDERS:
        sizes[name] = 0
        for folder, _, files in os.walk(Path(settings.store, name)):
            for file in files:
                facts = Path(folder, file).lstat()
                if (facts.st_dev, facts.st_ino) not in seen:
                    seen.add((facts.st_dev, facts.st_ino))
                    sizes[name] += facts.st_size
    return {name: size for name, size in sizes.items() if size}


def _ledger(stored: StoredDay, instrument: Instrument) -> Sequence[RawRow]:
    try:
        return stored.ledger(instrument) or ()
    except DamagedFileError:
        return ()


def _schedule(settings: Settings, store: Store, *, fitted: bool) -> str:
    if not fitted:
        return "would do nothing, because no constants have been fitted yet"
    due = list(days_due(settings, store, today=datetime.now(UTC).date()))
    return (
        f"would request {list_days(due)}" if due else "would request nothing: all days are complete"
    )
