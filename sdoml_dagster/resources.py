"""What assets are given to reach the world: the store and the archive."""

from typing import TYPE_CHECKING, Self

import dagster as dg

from sdoml_core.channels import Instrument
from sdoml_dagster.settings.model import Settings

if TYPE_CHECKING:  # requests and fsspec: a run needs them, those who list assets do not
    from sdoml_dagster.archive.client import ArchiveClient
    from sdoml_dagster.store.store import Store


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder or bucket that holds everything."""

    url: str

    def open(self) -> "Store":
        """The store itself."""
        from sdoml_dagster.store.store import Store

        return Store(self.url)


class ArchiveResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The JSOC archive, or whatever plays it."""

    aia_roots: list[str]
    hmi_roots: list[str]
    max_connections: int
    connect_timeout: float
    read_timeout: float
    attempts: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The archive that the settings name."""
        return cls(
            aia_roots=list(settings.aia_roots),
            hmi_roots=list(settings.hmi_roots),
            max_connections=settings.max_connections,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            attempts=settings.attempts,
        )

    def client(self, instrument: Instrument) -> "ArchiveClient":
        """A client for one instrument's tree; close it after use."""
        from sdoml_dagster.archive.client import ArchiveClient

        return ArchiveClient(
            self.aia_roots if instrument == "AIA" else self.hmi_roots,
            connections=self.max_connections,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            attempts=self.attempts,
        )
