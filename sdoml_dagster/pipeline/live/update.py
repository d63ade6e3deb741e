"""Update the near-real-time window: fetch the hours with new frames, publish them, and clean up.

It is safe to kill an update at any time, because it writes in this order: frames, the hour's table,
shards, the window's index, and finally the state. Work that is not in the state is repeated and
gives the same bytes.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

from sdoml_core.channels import CHANNELS, Instrument
from sdoml_core.errors import DamagedFileError, OutageError
from sdoml_core.formats.index import Index
from sdoml_core.formats.live_table import DEFINITIVE, LIVE_TABLE, LiveRow
from sdoml_core.kernel_cache import prepare_kernels
from sdoml_core.normalization.constants import Normalization
from sdoml_core.slots import midnight
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.days import parse_day
from sdoml_dagster.formatting import counted
from sdoml_dagster.pipeline.frozen_constants import needed_normalization
from sdoml_dagster.pipeline.live.collect import collect_hour
from sdoml_dagster.pipeline.live.compare_with_definitive import compare_with_definitive
from sdoml_dagster.pipeline.live.hours import (
    HOUR,
    hour_of,
    not_requested,
    of_instrument,
    read_hour,
    window_start,
)
from sdoml_dagster.pipeline.live.poll import KEPT_TABLES, News, due_hours
from sdoml_dagster.pipeline.live.state import OpenHour, Pause, State
from sdoml_dagster.pipeline.live.waiting import STAND_IN_AGE, may_improve, wanted
from sdoml_dagster.pipeline.live.window import (
    Window,
    copy_slot,
    has_pixels_of,
    is_published,
    pack_slot,
    publish,
    read_frame,
    read_window,
    retire,
)
from sdoml_dagster.pipeline.pack import check_constants
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

VERIFIED_EVERY: Final = timedelta(hours=1)
"""Time between comparisons of the index with the tables of all hours."""

KEPT_DAYS = 30
"""Number of definitive days that the state remembers."""


@dataclass
class Updated:
    """The outcome of an update."""

    rows: dict[datetime, list[LiveRow]] = field(default_factory=dict)
    """All rows of each changed hour."""

    frames: Counter[str] = field(default_factory=Counter)
    """Number of new frames, by channel."""

    slots: int = 0
    """Number of slots that were published or republished."""

    samples: int = 0
    """Number of slots in the window."""

    outage: OutageError | None = None
    """The reason why some requests failed, or None if none failed."""


def update(
    news: News,
    *,
    settings: Settings,
    store: Store,
    clients: Mapping[Instrument, ArchiveClient],
    state: State,
    now: datetime,
    report: Callable[[str], None],
) -> Updated:
    """Fetch, process and publish all new frames, and remove old slots from the window.

    Parameters
    ----------
    news
        Hours and days to work on, from `sdoml_dagster.pipeline.live.poll.poll`.
    settings, store
        The dataset's settings and store.
    clients
        A client for each instrument.
    state
        State from earlier updates. It is changed in place, and the caller saves it.
    now
        The current time (UTC).
    report
        Called with one line per hour.

    Raises
    ------
    MissingInputError
        If no constants have been fitted yet. Live frames use the dataset's constants.
    NormalizationError
        If the constants do not match the settings.
    """
    constants = needed_normalization(store)
    check_constants(constants, settings)
    prepare_kernels(report)
    window = read_window(store, settings, constants)
    # This comes first, because nothing can be written to a full disk before files are deleted.
    _remove_old(store, window_start(settings, now), now)
    if window.table is not None:
        retire(store, window, state, now)
    updater = _Updater(settings, store, clients, state, constants, now, report, window)
    updater.collect(news)
    for day in news.days:
        if day not in state.compared:
            compare_with_definitive(day, settings=settings, store=store)
    state.compared = sorted({*state.compared, *news.days})[-KEPT_DAYS:]
    state.replaced = sorted({*state.replaced, *news.days})[-KEPT_DAYS:]
    updater.publish({})
    updater.done.samples = len(updater.window.shards)
    retire(store, updater.window, state, now)
    return updater.done


@dataclass
class _Updater:
    """Fetches and publishes hours, one after another."""

    settings: Settings
    store: Store
    clients: Mapping[Instrument, ArchiveClient]
    state: State
    constants: Normalization
    now: datetime
    report: Callable[[str], None]
    window: Window
    done: Updated = field(default_factory=Updated)
    failing: set[Instrument] = field(default_factory=set)
    """Trees that did not respond."""

    def collect(self, news: News) -> None:
        """Fetch all hours with new frames, newest first, and publish each hour."""
        start = window_start(self.settings, self.now)
        hours = set(news.all_hours)
        for day in news.days:
            if day not in self.state.replaced:
                hours |= set(_hours_of(day))
        if self.window.table is None:  # no index, or an index with other constants
            hours |= set(_stored_hours(self.store))
        elif self.state.verified is None or self.now - self.state.verified >= VERIFIED_EVERY:
            hours |= self._hours_to_repair(start)
            self.state.verified = self.now
        for hour in sorted(hours, reverse=True):
            if start <= hour <= self.now:
                self._update_hour(hour, news)
        for instrument in self.clients:
            tree = self.state.tree(instrument)
            if instrument in self.failing:
                continue  # the next update requests the same hours again
            tree.outage = Pause()
            due = due_hours(self.settings, tree, self.now)
            if tree.newest is not None and due <= news.hours.get(instrument, set()):
                tree.collected = min(tree.newest, self.now)

    def _hours_to_repair(self, start: datetime) -> set[datetime]:
        """Return the hours whose frames and published slots differ.

        Two simultaneous updates, for example from two schedulers, can each replace the other's
        index.
        """
        found = set()
        for hour in _stored_hours(self.store):
            if start <= hour <= self.now:
                slots = _by_slot(read_hour(self.store, self.settings, hour))
                if not all(is_published(self.window, slot, own) for slot, own in slots.items()):
                    found.add(hour)
        return found

    def publish(self, changed: Mapping[datetime, Index | None]) -> None:
        """Publish slots that changed, and remove slots that are older than the window."""
        start = window_start(self.settings, self.now)
        self.window = publish(
            self.window,
            changed,
            settings=self.settings,
            store=self.store,
            constants=self.constants,
            start=start,
        )

    def _update_hour(self, hour: datetime, news: News) -> None:
        rows = read_hour(self.store, self.settings, hour)
        before = dict(rows)
        definitive = self._definitive_index(hour.date())
        if definitive is not None:
            _replace_rows(rows, definitive)
            for instrument in self.clients:
                self.state.tree(instrument).open.pop(hour, None)
        else:
            lost = self._forget_lost_frames(rows)
            for instrument in self.clients:
                if hour in news.hours.get(instrument, set()) or instrument in lost:
                    self._collect(hour, instrument, rows)
        path = layout.live_table(hour)
        new_table = rows != before or not self.store.exists(path)
        if new_table:
            self.store.write(path, LIVE_TABLE.encode(rows.values()))
        changed = self._pack(hour, rows, definitive)
        if new_table or changed:
            self.done.rows[hour] = list(rows.values())
        self.publish(changed)
        self.done.slots += len(changed)
        usable = sum(row.status == "ok" for row in rows.values())
        self.report(
            f"live {hour:%Y-%m-%d %H}:00: {usable} of {len(rows)} frames, "
            f"{counted(len(changed), 'slot')} published"
        )

    def _forget_lost_frames(self, rows: dict[tuple[datetime, str], LiveRow]) -> set[Instrument]:
        """Reset the rows of frames that must be packed but cannot be read from the store.

        These frames were deleted or damaged, or were processed with a different resolution or
        different HMI values. Returns the instruments that have such frames.
        """
        lost: set[Instrument] = set()
        for slot, own in _by_slot(rows).items():
            if is_published(self.window, slot, own):
                continue
            for row in own:
                if row.status == "ok" and not self._is_stored(row):
                    empty = not_requested(slot, row.channel)
                    rows[slot, row.channel] = replace(empty, thumbnail=row.thumbnail)
                    lost.add(CHANNELS[row.channel].instrument)
        return lost

    def _is_stored(self, row: LiveRow) -> bool:
        if row.values not in {None, self.settings.hmi_values}:
            return False
        try:
            read_frame(self.store, row, resolution=self.settings.resolution)
        except DamagedFileError:
            return False
        return True

    def _definitive_index(self, day: date) -> Index | None:
        """Return the index of a definitive day if it was packed in the same way as the window."""
        if not self.store.exists(layout.shard_index(day)):
            return None
        index = StoredDay(self.store, day).shard_index()
        same = (
            index is not None
            and index.normalization_version == self.constants.version
            and has_pixels_of(index, self.settings, self.constants)
        )
        return index if same else None

    def _collect(
        self, hour: datetime, instrument: Instrument, rows: dict[tuple[datetime, str], LiveRow]
    ) -> None:
        """Request an hour's missing frames, and record which frames may still appear or improve."""
        tree = self.state.tree(instrument)
        newest = min(tree.newest or self.now, self.now)
        asked = [row for row in of_instrument(rows.values(), instrument) if row.slot <= newest]
        found = collect_hour(
            hour,
            instrument,
            asked,
            settings=self.settings,
            store=self.store,
            client=self.clients[instrument],
            now=self.now,
        )
        rows |= {(row.slot, row.channel): row for row in found.rows}
        new = [row.channel for row in found.rows if row.status == "ok"]
        self.done.frames.update(new)
        if found.outage is not None:
            self.done.outage = found.outage
            if instrument not in self.failing:
                tree.outage.failed(self.now)
            self.failing.add(instrument)
        current = [rows[row.slot, row.channel] for row in asked]
        names = {
            (row.slot, name)
            for row in current
            if found.outage is not None or may_improve(self.settings, row, self.now)
            for name in wanted(self.settings, row)
        }
        late = tree.open.pop(hour, OpenHour())
        if not names:
            return
        late.slots = sorted({slot for slot, _ in names})
        late.wanted = sorted({name for _, name in names})
        if new:
            late.pause = Pause()
        else:
            late.failed(self.now, young=self.now - max(late.slots) < STAND_IN_AGE)
        tree.open[hour] = late

    def _pack(
        self,
        hour: datetime,
        rows: Mapping[tuple[datetime, str], LiveRow],
        definitive: Index | None,
    ) -> dict[datetime, Index | None]:
        """Write shards for the slots whose frames differ from the published frames."""
        slots = _by_slot(rows).items()
        todo = {slot: own for slot, own in slots if not is_published(self.window, slot, own)}
        if definitive is None:
            return {
                slot: pack_slot(
                    own, settings=self.settings, store=self.store, constants=self.constants
                )
                for slot, own in todo.items()
            }
        if not todo:
            return {}
        with self.store.open(layout.shard(hour.date())) as source:
            return {slot: copy_slot(slot, source, definitive, store=self.store) for slot in todo}


def _by_slot(rows: Mapping[tuple[datetime, str], LiveRow]) -> dict[datetime, list[LiveRow]]:
    slots: dict[datetime, list[LiveRow]] = {}
    for row in rows.values():
        slots.setdefault(row.slot, []).append(row)
    return slots


def _replace_rows(rows: dict[tuple[datetime, str], LiveRow], index: Index) -> None:
    """Replace provisional rows with definitive rows. Thumbnails are kept for the comparison."""
    wanted_columns = ("observed", "exposure", "quality", "rsun_obs", "degradation", "flags")
    found = {
        (frame["slot"], frame["channel"]): {name: frame[name] for name in wanted_columns}
        for frame in index.table.to_pylist()
    }
    for key, row in rows.items():
        facts = found.get(key)
        rows[key] = LiveRow(
            *key,
            "missing" if facts is None else "ok",
            reason=DEFINITIVE,
            published=row.published,
            thumbnail=row.thumbnail,
            **(facts or {}),
        )


def _hours_of(day: date) -> list[datetime]:
    return [midnight(day) + n * HOUR for n in range(24)]


def _stored_hours(store: Store) -> list[datetime]:
    """Return the hours that have a table."""
    found = []
    for path in store.find(layout.LIVE_FRAMES):
        if path.endswith(".parquet"):
            year, month, day, hour = path.removesuffix(".parquet").split("/")[-4:]
            date_ = parse_day(f"{year}-{month}-{day}")
            if date_ is not None and hour.isdigit() and int(hour) < 24:
                found.append(_hours_of(date_)[int(hour)])
    return found


def _remove_old(store: Store, start: datetime, now: datetime) -> None:
    """Remove frames that are older than the window, and tables that are too old to compare."""
    oldest = hour_of(now) - KEPT_TABLES
    for path in store.find(layout.LIVE_FRAMES):
        *_, year, month, day, name = path.split("/")
        date_ = parse_day(f"{year}-{month}-{day}")
        if date_ is None or not name[:2].isdigit() or int(name[:2]) > 23:
            continue
        hour = _hours_of(date_)[int(name[:2])]
        if hour < (oldest if name.endswith(".parquet") else start):
            store.delete(path)
            _remove_empty_folders(store, path)


def _remove_empty_folders(store: Store, path: str) -> None:
    """Remove a file's folder and its parents if they are empty (local stores only)."""
    local = store.local_path(path)
    if local is None:
        return
    with contextlib.suppress(OSError):  # the folder is not empty
        for parent in list(local.parents)[:3]:
            parent.rmdir()
