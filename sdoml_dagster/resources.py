"""Dagster resources: the store and the archive."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import dagster as dg
from pydantic import Field

from sdoml_core.channels import Instrument
from sdoml_dagster.archive.address import public
from sdoml_dagster.settings.model import Settings

if TYPE_CHECKING:  # slow to import: runs need requests and fsspec, but definitions do not
    from sdoml_dagster.archive.client import ArchiveClient
    from sdoml_dagster.store.store import Store


_ROOTS_WITH_CREDENTIALS: dict[str, str] = {}
"""Roots that contain a user name and a password, by the address without them. They are kept out of
the resource, because Dagster stores resource values and shows them to everyone who opens the UI."""


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The folder or bucket that contains all data."""

    url: str = Field(description="Folder or fsspec URL of the store (SDOML_STORE).")

    def open(self) -> "Store":
        """Open the store."""
        from sdoml_dagster.store.store import Store

        return Store(self.url)


class ArchiveResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The JSOC archive, or another server with the same trees."""

    aia_roots: list[str] = Field(description="Roots of the AIA tree, without credentials.")
    hmi_roots: list[str] = Field(description="Roots of the HMI tree, without credentials.")
    max_connections: int = Field(description="Maximum number of connections per process.")
    connect_timeout: float = Field(description="Timeout for opening a connection, in seconds.")
    read_timeout: float = Field(description="Timeout for receiving the next bytes, in seconds.")
    attempts: int = Field(
        description="Attempts per mirror before a frame is recorded as an outage."
    )

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Create the resource for the archive in the settings."""
        return cls(
            aia_roots=_without_credentials(settings.aia_roots),
            hmi_roots=_without_credentials(settings.hmi_roots),
            max_connections=settings.max_connections,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            attempts=settings.attempts,
        )

    def client(self, instrument: Instrument) -> "ArchiveClient":
        """Create a client for an instrument's tree. The caller must close it."""
        from sdoml_dagster.archive.client import ArchiveClient

        roots = self.aia_roots if instrument == "AIA" else self.hmi_roots
        return ArchiveClient(
            [_ROOTS_WITH_CREDENTIALS.get(root, root) for root in roots],
            connections=self.max_connections,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            attempts=self.attempts,
        )


def _without_credentials(roots: Sequence[str]) -> list[str]:
    """Return roots without credentials, for display. The credentials are kept in memory."""
    shown = []
    for root in roots:
        shown.append(public(root))
        if shown[-1] != root:
            _ROOTS_WITH_CREDENTIALS[shown[-1]] = root
    return shown
