"""State that one update saves for the next. It only helps to avoid requests.

The tables and the index of the window define the content, so the state may be deleted. The next
update then checks the whole window once.
"""

import hashlib
from datetime import date, datetime, timedelta

from pydantic import BaseModel, Field, ValidationError

from sdoml_core.channels import Instrument
from sdoml_dagster.archive.client import Page
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

_FIRST_PAUSE = timedelta(minutes=3)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_OUTAGE_PAUSE = timedelta(minutes=15)
_CLOCK_ERROR = timedelta(minutes=10)
"""Tolerated difference between the clocks of machines that share a store."""
_DECISIVE = {
    "aia_roots",
    "aia_tolerance_minutes",
    "cadence_minutes",
    "channels",
    "dtype",
    "encoding",
    "hmi_roots",
    "hmi_values",
    "live_hours",
    "max_missing_fraction",
    "resolution",
}
_YOUNG_TRIES = 8
"""Number of unsuccessful checks after which even a recent hour is checked less often."""


class Pause(BaseModel):
    """Exponential back-off."""

    tries: int = 0
    until: datetime | None = None

    def over(self, now: datetime) -> bool:
        """Return whether the next attempt is due."""
        return self.until is None or now >= self.until

    def failed(
        self, now: datetime, *, free: int = 0, longest: timedelta = _LONGEST_OUTAGE_PAUSE
    ) -> None:
        """Count an unsuccessful attempt. The first ``free`` attempts cause no pause."""
        self.tries += 1
        doublings = self.tries - free - 1
        pause = _FIRST_PAUSE * 2 ** min(doublings, 10) if doublings >= 0 else timedelta(0)
        self.until = now + min(pause, longest)


class OpenHour(BaseModel):
    """Frames of one hour and instrument that the archive may still publish."""

    slots: list[datetime] = Field(default_factory=list)
    wanted: list[str] = Field(default_factory=list)
    """Names of the files that would complete or improve the hour."""
    pause: Pause = Field(default_factory=Pause)

    def failed(self, now: datetime, *, young: bool) -> None:
        """Count an unsuccessful check of the hour."""
        self.pause.failed(now, free=_YOUNG_TRIES if young else 0, longest=_LONGEST_PAUSE)


class Tree(BaseModel):
    """State of one instrument's archive tree."""

    newest: datetime | None = None
    """Newest time in the tree."""
    collected: datetime | None = None
    """Slots up to this time have been requested at least once."""
    text: str = ""
    etag: str | None = None
    modified: str | None = None
    outage: Pause = Field(default_factory=Pause)
    looked_at_hour: bool = False
    """Whether the last request was for an hour and found nothing. The next request may then be for
    the newest time."""
    next_old: datetime | None = None
    """Earliest time of the next check of an hour with long-overdue frames."""
    open: dict[datetime, OpenHour] = Field(default_factory=dict)

    @property
    def page(self) -> Page | None:
        """The last response to a request for the newest time."""
        return Page(self.text.encode(), self.etag, self.modified) if self.text else None

    def remember(self, page: Page) -> None:
        """Store the response to a request for the newest time."""
        self.text = page.data.decode("ascii", "replace")[:4096]
        self.etag, self.modified = page.etag, page.modified


class State(BaseModel):
    """The complete state of the window."""

    settings: str = ""
    """Hash of the settings for which the state was saved."""
    saved: datetime | None = None
    trees: dict[Instrument, Tree] = Field(default_factory=dict)
    news: dict[Instrument, list[datetime]] = Field(default_factory=dict)
    """Hours with new frames that the last check found, for the run that it requested."""
    days: list[date] = Field(default_factory=list)
    """Definitive days that the last check found."""
    retired: dict[str, datetime] = Field(default_factory=dict)
    """Shards that were removed from the window, with the times of removal."""
    looked_for_days: datetime | None = None
    """Time of the last search of the store for definitive days."""
    verified: datetime | None = None
    """Time of the last comparison of the index with the tables of all hours."""
    compared: list[date] = Field(default_factory=list)
    """Definitive days that are in the report or cannot be compared."""
    replaced: list[date] = Field(default_factory=list)
    """Definitive days that have replaced their provisional frames."""

    def tree(self, instrument: Instrument) -> Tree:
        """Return the state of a tree."""
        return self.trees.setdefault(instrument, Tree())


def load_state(store: Store, settings: Settings, *, now: datetime) -> State:
    """Read the state that the last update saved.

    Returns an empty state if the saved state is missing or damaged. A state that was saved for
    other settings is also ignored, because different frames are expected now. A state from the
    future is ignored because the clock was set back, and its pauses would last until that time.
    """
    data = store.read_if_exists(layout.LIVE_STATE)
    mark = _mark(settings)
    try:
        state = State.model_validate_json(data) if data is not None else State()
    except ValidationError:
        state = State()
    if state.settings == mark and (state.saved is None or state.saved - now <= _CLOCK_ERROR):
        return state
    return State(settings=mark, compared=state.compared)


def save_state(store: Store, state: State, *, now: datetime) -> None:
    """Write the state for the next update."""
    state.saved = now
    store.write(layout.LIVE_STATE, state.model_dump_json(indent=1).encode())


def _mark(settings: Settings) -> str:
    """Return a hash of the settings that determine which frames are in the window."""
    found = settings.model_dump_json(include=_DECISIVE)
    return hashlib.sha256(found.encode()).hexdigest()[:16]
