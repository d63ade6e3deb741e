"""Check for new frames, with at most one request per tree and no downloads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from sdoml_core.channels import CHANNELS, Instrument
from sdoml_core.errors import FrameMissingError, FrameRefusedError, OutageError
from sdoml_core.slots import MINUTE
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.listing import listed_names, newest_time
from sdoml_dagster.archive.tree import archive_path, live_folder, newest_path
from sdoml_dagster.pipeline.live.hours import hour_of, slots_between, window_start
from sdoml_dagster.pipeline.live.state import OpenHour, State, Tree
from sdoml_dagster.pipeline.live.waiting import LAST_REQUEST_AGE, STAND_IN_AGE
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

_SEARCH_PAUSE: Final = timedelta(hours=1)
"""Time between searches of the store for definitive days."""

_APPEARING: Final = timedelta(minutes=60)
"""If an hour's newest incomplete slot is younger than this, its frames may be about to appear."""

_OLD_PAUSE: Final = timedelta(minutes=15)

KEPT_TABLES: Final = timedelta(days=15)
"""Maximum age of hourly tables. They are kept for the comparison with definitive days."""

_EARLIEST: Mapping[Instrument, timedelta] = {
    "AIA": timedelta(minutes=12),
    "HMI": timedelta(minutes=30),
}
"""Age of a slot before which its frame is not expected."""

_USUAL_DELAY: Mapping[Instrument, timedelta] = {
    "AIA": timedelta(minutes=20),
    "HMI": timedelta(minutes=65),
}
"""Assumed age of the newest frame in a tree that does not state its newest time."""


@dataclass
class News:
    """The work that results from a check."""

    hours: dict[Instrument, set[datetime]] = field(default_factory=dict)
    """Hours with frames to request, by instrument."""

    days: list[date] = field(default_factory=list)
    """Definitive days that replace provisional frames or can be compared with them."""

    outages: list[str] = field(default_factory=list)
    """Error messages of trees that did not respond."""

    @property
    def all_hours(self) -> list[datetime]:
        """All hours with frames to request, newest first."""
        return sorted(set().union(*self.hours.values()), reverse=True)

    def __bool__(self) -> bool:
        return bool(self.all_hours or self.days)


def poll(
    settings: Settings,
    store: Store,
    clients: Mapping[Instrument, ArchiveClient],
    state: State,
    *,
    now: datetime,
) -> News:
    """Check whether the archive has new frames, and whether the store has new definitive days.

    Each tree gets at most one request. It is either a conditional request for the newest time, or a
    request for one hour with late frames. Hours without new frames, and trees that do not respond,
    are checked at increasing intervals.

    Parameters
    ----------
    settings, store
        The dataset's settings and store.
    clients
        A client for each instrument.
    state
        State from earlier updates. It is changed in place, and the caller saves it.
    now
        The current time (UTC).
    """
    news = News()
    start = window_start(settings, now)
    for instrument, client in clients.items():
        tree = state.tree(instrument)
        tree.open = {hour: late for hour, late in tree.open.items() if hour >= start}
        hours = due_hours(settings, tree, now)
        if not hours and tree.outage.over(now):
            try:
                hours = _ask(settings, instrument, client, tree, now)
                tree.outage.tries, tree.outage.until = 0, None
            except OutageError as error:
                tree.outage.failed(now)
                news.outages.append(str(error))
        if hours and tree.outage.over(now):
            news.hours[instrument] = hours
    if state.looked_for_days is None or now - state.looked_for_days >= _SEARCH_PAUSE:
        state.looked_for_days = now
        news.days = _definitive_days(settings, store, state, now)
    return news


def due_hours(settings: Settings, tree: Tree, now: datetime) -> set[datetime]:
    """Return the hours with known slots that have never been requested."""
    if tree.newest is None:
        return set()
    after = window_start(settings, now) - MINUTE
    if tree.collected is not None:
        after = max(after, tree.collected)
    return {hour_of(slot) for slot in slots_between(settings, after, min(tree.newest, now))}


def _ask(
    settings: Settings, instrument: Instrument, client: ArchiveClient, tree: Tree, now: datetime
) -> set[datetime]:
    """Send at most one request for a tree, and return the hours that have new frames."""
    late = _latest_due(tree, now)
    if late is not None and not _must_ask_for_newest(settings, instrument, tree, late[0], now):
        hour, its = late
        # In the last check, request the frames themselves, which makes their status final.
        last = now - max(its.slots) >= LAST_REQUEST_AGE
        found = {hour} if last or _has_appeared(instrument, client, tree, hour, its) else set()
        found |= due_hours(settings, tree, now)
        tree.looked_at_hour = not found
        if not found:
            its.failed(now, young=now - max(its.slots) < STAND_IN_AGE)
        return found
    tree.looked_at_hour = False
    try:
        page = client.poll(newest_path(instrument), tree.page)
    except FrameMissingError:
        tree.newest = now - _USUAL_DELAY[instrument]
    else:
        tree.newest = newest_time(page)
        tree.remember(page)
    return due_hours(settings, tree, now)


def _must_ask_for_newest(
    settings: Settings, instrument: Instrument, tree: Tree, hour: datetime, now: datetime
) -> bool:
    """Return whether the newest time must be requested, because a new slot may exist."""
    if not tree.looked_at_hour or tree.newest is None:
        return False
    after = tree.collected or tree.newest
    new = slots_between(settings, after, now - _EARLIEST[instrument])
    return any(instrument == "HMI" or hour_of(slot) != hour for slot in new)


def _latest_due(tree: Tree, now: datetime) -> tuple[datetime, OpenHour] | None:
    """Return the open hour whose next check is due.

    Hours whose frames may be about to appear come first. The other hours share one request every 15
    minutes.
    """
    due = {hour: late for hour, late in tree.open.items() if late.wanted and late.pause.over(now)}
    young = [hour for hour, late in due.items() if now - max(late.slots) < _APPEARING]
    if young:
        hour = min(young, key=lambda hour: due[hour].pause.until or hour)
        return hour, due[hour]
    if not due or (tree.next_old is not None and now < tree.next_old):
        return None
    tree.next_old = now + _OLD_PAUSE
    hour = min(due, key=lambda hour: due[hour].pause.until or hour)
    return hour, due[hour]


def _has_appeared(
    instrument: Instrument, client: ArchiveClient, tree: Tree, hour: datetime, late: OpenHour
) -> bool:
    """Return whether a late frame of an hour is now in the archive."""
    try:
        if instrument == "AIA":
            page = client.poll(live_folder(hour))
            names = listed_names(page)
            tree.newest = max(tree.newest or hour, newest_time(page))
            return not names.isdisjoint(late.wanted)
        # A day's folder lists every HMI product, so a request for one frame is smaller. Alternate
        # between the slots, because any of them may be the next to appear.
        slot = late.slots[late.pause.tries % len(late.slots)]
        client.poll(archive_path(CHANNELS["HMI_M"], slot))
    except FrameRefusedError:
        # The tree has no listings, so the frames themselves must be requested.
        return instrument == "AIA"
    except FrameMissingError:
        return False
    return True


def _definitive_days(settings: Settings, store: Store, state: State, now: datetime) -> list[date]:
    """Return the definitive days that are not yet in both the report and the window."""
    first = min(window_start(settings, now), now - KEPT_TABLES).date()
    days = (first + n * timedelta(days=1) for n in range((now.date() - first).days + 1))
    done = set(state.compared) & set(state.replaced)
    return [day for day in days if day not in done and store.exists(layout.shard_index(day))]
