"""Build a day's shard from the archive as the assets do, in this process."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.formats.ledger import RawRow
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

DAY = date(2024, 3, 8)


@dataclass
class Deployment:
    """A store and the archive that it is built from."""

    settings: Settings
    day: date = DAY
    lines: list[str] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return Store(self.settings.store)

    @property
    def folder(self) -> Path:
        return Path(self.settings.store)

    def fetch(self, *instruments: Instrument) -> None:
        for instrument in instruments or INSTRUMENTS:
            roots = self.settings.aia_roots if instrument == "AIA" else self.settings.hmi_roots
            with ArchiveClient(
                roots,
                connections=self.settings.max_connections,
                read_timeout=self.settings.read_timeout,
                attempts=self.settings.attempts,
                pause=0.02,
            ) as client:
                fetch_day(
                    self.day,
                    instrument,
                    settings=self.settings,
                    store=self.store,
                    client=client,
                    report=self.lines.append,
                )

    def process(self) -> None:
        for instrument in INSTRUMENTS:
            process_day(
                self.day,
                instrument,
                settings=self.settings,
                store=self.store,
                report=self.lines.append,
            )

    def pack(self) -> None:
        freeze(self.store, fit_store(self.settings, self.store).normalization, replace=False)
        pack_day(self.day, settings=self.settings, store=self.store, report=self.lines.append)

    def build(self) -> None:
        self.fetch()
        self.process()
        self.pack()

    def ledger(self) -> list[RawRow]:
        return [
            row
            for instrument in INSTRUMENTS
            for row in StoredDay(self.store, self.day).ledger(instrument) or ()
        ]

    def files(self, below: str = "") -> dict[str, str]:
        """Return the SHA-256 of every file, including partial ones."""
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((self.folder / below).rglob("*"))
            if path.is_file()
        }


Deploy = Callable[..., Deployment]
