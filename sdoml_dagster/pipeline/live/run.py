"""Run one check or one update. Load the state first, and save the state afterward."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from datetime import datetime

from sdoml_core.channels import Instrument
from sdoml_core.errors import StoreError
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.pipeline.live.poll import News, poll
from sdoml_dagster.pipeline.live.state import load_state, save_state
from sdoml_dagster.pipeline.live.update import Updated, update
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store

Clients = Mapping[Instrument, ArchiveClient]


def find_news(settings: Settings, store: Store, clients: Clients, *, now: datetime) -> News:
    """Check for new frames, and save the result for the next update.

    Parameters
    ----------
    settings, store
        The dataset's settings and store.
    clients
        A client for each instrument. This function closes them.
    now
        The current time (UTC).
    """
    with ExitStack() as stack:
        opened = {name: stack.enter_context(client) for name, client in clients.items()}
        state = load_state(store, settings, now=now)
        news = poll(settings, store, opened, state, now=now)
        state.news = {name: sorted(hours) for name, hours in news.hours.items()}
        state.days = news.days
        # A full disk must not prevent the update, because the update deletes old frames before it
        # writes.
        with suppress(StoreError):
            save_state(store, state, now=now)
    return news


def update_window(
    *,
    settings: Settings,
    store: Store,
    clients: Clients,
    now: datetime,
    report: Callable[[str], None],
) -> Updated:
    """Process the frames that the last check found. If it found none, first check again.

    Parameters
    ----------
    settings, store
        The dataset's settings and store.
    clients
        A client for each instrument. This function closes them.
    now
        The current time (UTC).
    report
        Called with one line per hour.
    """
    with ExitStack() as stack:
        opened = {name: stack.enter_context(client) for name, client in clients.items()}
        state = load_state(store, settings, now=now)
        news = News({i: set(hours) for i, hours in state.news.items() if i in opened}, state.days)
        if not news:
            news = poll(settings, store, opened, state, now=now)
        done = update(
            news,
            settings=settings,
            store=store,
            clients=opened,
            state=state,
            now=now,
            report=report,
        )
        # This comes last, so that an update that fails or is killed earlier is repeated.
        state.news, state.days = {}, []
        save_state(store, state, now=now)
        return done
