"""A near-real-time deployment with a simulated clock and without Dagster."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sdoml_core.channels import CHANNELS, Instrument, parse_channels
from sdoml_core.normalization.constants import ChannelStatistics, Normalization
from sdoml_core.normalization.transform import transform_of
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.live.poll import News
from sdoml_dagster.pipeline.live.run import find_news, update_window
from sdoml_dagster.pipeline.live.update import Updated
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive

START = datetime(2026, 3, 30, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def settled_plan(now: datetime) -> LivePlan:
    """Return a plan in which no frame is newly published or being written at a given time."""
    youngest = {"AIA": 40 * MINUTE, "HMI": 85 * MINUTE}
    later = now + timedelta(days=1)
    return LivePlan(
        silent={c.name: [(now - youngest[c.instrument], later)] for c in CHANNELS.values()}
    )


def constants_for(settings: Settings) -> Normalization:
    """Return plausible constants that look as if they were fitted to a day."""
    day = date(2024, 3, 8)
    pixels = (1024 // settings.resolution) ** 2
    channels = {
        channel.name: ChannelStatistics(
            transform_of(channel.name),
            1.0 if channel.instrument == "HMI" else 3000.0 * pixels,
            1,
        )
        for channel in parse_channels(settings.channels)
    }
    return Normalization("max", settings.resolution, day, day, 1, channels)


@dataclass
class LiveDeployment:
    """A store, the archive that it follows, and the clock of both."""

    settings: Settings
    archive: Archive
    lines: list[str] = field(default_factory=list)
    clock_error: timedelta = timedelta(0)
    """How far this machine's clock is ahead of the archive's clock."""

    def __post_init__(self) -> None:
        freeze(self.store, constants_for(self.settings), replace=False)

    def clients(self) -> dict[Instrument, ArchiveClient]:
        """Create new clients, as a new process would."""
        return {
            instrument: ArchiveClient(
                [self.archive.aia_root if instrument == "AIA" else self.archive.hmi_root],
                connections=2,
                attempts=2,
                pause=0.01,
            )
            for instrument in self.settings.instruments
        }

    @property
    def store(self) -> Store:
        return Store(self.settings.store)

    @property
    def folder(self) -> Path:
        """The folder for `LiveDataset` if the store is local."""
        return Path(self.settings.store) / "live"

    @property
    def url(self) -> str:
        """The folder or URL for `LiveDataset`."""
        return f"{self.settings.store}/live"

    @property
    def now(self) -> datetime:
        return self.archive.clock.now() + self.clock_error

    def look(self) -> News:
        """Look for news without updating the window."""
        return find_news(self.settings, self.store, self.clients(), now=self.now)

    def tick(self) -> Updated | None:
        """Look for news and update the window if there is any; otherwise return None."""
        if not self.look():
            return None
        return update_window(
            settings=self.settings,
            store=self.store,
            clients=self.clients(),
            now=self.now,
            report=self.lines.append,
        )

    def run(self, duration: timedelta, step: timedelta = 3 * MINUTE) -> None:
        """Let simulated time pass, with a tick after each step."""
        for _ in range(duration // step):
            self.archive.clock.advance(step)
            self.tick()

    def files(self) -> dict[str, bytes]:
        """Return the published window: the index and the shards that it names."""
        from sdoml_core.loader.storage.catalog import Catalog

        index = self.store.read(layout.LIVE_INDEX)
        names = Catalog(index).shards
        shards = {name: self.store.read(f"{layout.LIVE}/{name}") for name in names}
        return {"index.parquet": index} | shards
