"""State that one update saves for the next. It only saves requests, and may be deleted.

The tables and the window's index define the content. If the state is lost, the next update checks
the whole window once.
"""

from datetime import date, datetime, timedelta

from pydantic import BaseModel, Field, ValidationError

from sdoml_core.channels import Instrument
from sdoml_dagster.archive.client import Page
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

_FIRST_PAUSE = timedelta(minutes=3)
_LONGEST_PAUSE = timedelta(hours=1)
_LONGEST_OUTAGE_PAUSE = timedelta(minutes=15)
_YOUNG_TRIES = 8
"""Checks without a result after which even a recent hour is checked less often."""


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
        """Count an attempt without a result. The first ``free`` ones do not lengthen the pause."""
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
        """Count a check of the hour without a result."""
        self.pause.failed(now, free=_YOUNG_TRIES if young else 0, longest=_LONGEST_PAUSE)


class Tree(BaseModel):
    """State of one instrument's tree."""

    newest: datetime | None = None
    """Newest time in the tree."""
    collected: datetime | None = None
    """Slots up to this time have been requested at least once."""
    text: str = ""
    etag: str | None = None
    modified: str | None = None
    outage: Pause = Field(default_factory=Pause)
    looked_at_hour: bool = False
    """The last request was for an hour and found nothing, so the next is for the newest time."""
    next_old: datetime | None = None
    """When an hour with long overdue frames may be checked next."""
    open: dict[datetime, OpenHour] = Field(default_factory=dict)

    @property
    def page(self) -> Page | None:
        """The last response for the newest time."""
        return Page(self.text.encode(), self.etag, self.modified) if self.text else None

    def remember(self, page: Page) -> None:
        """Store the response for the newest time."""
        self.text = page.data.decode("ascii", "replace")[:4096]
        self.etag, self.modified = page.etag, page.modified


class State(BaseModel):
    """The complete state."""

    trees: dict[Instrument, Tree] = Field(default_factory=dict)
    news: dict[Instrument, list[datetime]] = Field(default_factory=dict)
    """Hours with new frames that the last check found, for the run that it requested."""
    days: list[date] = Field(default_factory=list)
    """Definitive days that the last check found."""
    retired: dict[str, datetime] = Field(default_factory=dict)
    """Shards that were removed from the window, and when."""
    looked_for_days: datetime | None = None
    """When the store was last searched for definitive days."""
    compared: list[date] = Field(default_factory=list)
    """Definitive days that are in the report or cannot be compared."""
    replaced: list[date] = Field(default_factory=list)
    """Definitive days that replaced their provisional frames."""

    def tree(self, instrument: Instrument) -> Tree:
        """Return the state of a tree."""
        return self.trees.setdefault(instrument, Tree())


def load_state(store: Store) -> State:
    """Read the state of the last update. If it is missing or damaged, return an empty state."""
    data = store.read_if_exists(layout.LIVE_STATE)
    if data is None:
        return State()
    try:
        return State.model_validate_json(data)
    except ValidationError:
        return State()


def save_state(store: Store, state: State) -> None:
    """Write the state for the next update."""
    store.write(layout.LIVE_STATE, state.model_dump_json(indent=1).encode())
