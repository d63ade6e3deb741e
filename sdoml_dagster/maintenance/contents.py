"""Describe the content of a store from its small tables, without reading pixels.

If Dagster's database is lost, the store still has all data. For each day and asset, this module
finds out what the store contains and whether that matches the settings. The job ``adopt_store``
reports the result to Dagster.
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from sdoml_core.channels import Instrument
from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_core.formats.encoding import COMPACT_DTYPE
from sdoml_core.formats.index import Index
from sdoml_core.formats.ledger import FrameRow, RawRow
from sdoml_core.formats.release_files import RELEASE_SUMS
from sdoml_core.normalization.constants import Normalization
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.completeness import frames_not_packed
from sdoml_dagster.pipeline.fetch import DayLedger
from sdoml_dagster.pipeline.frozen_constants import current_normalization
from sdoml_dagster.pipeline.process import ProcessedDay
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class StoredFrames:
    """The raw or processed frames of one instrument and day."""

    instrument: Instrument
    rows: tuple[RawRow, ...] | tuple[FrameRow, ...]
    content: bytes
    """Content whose hash is the data version. It has the same form as when the day was built."""

    as_configured: bool
    """Whether the settings would build the same frames."""


@dataclass(frozen=True, slots=True)
class StoredShard:
    """The shard of a day."""

    index: Index
    as_configured: bool
    """Whether the shard has all frames of its day, with the encoding, pixel type and resolution in
    the settings."""


@dataclass(frozen=True, slots=True)
class DayContents:
    """The complete content of a store for one day."""

    day: date
    raw: tuple[StoredFrames, ...]
    processed: tuple[StoredFrames, ...]
    shard: StoredShard | None
    damaged: tuple[str, ...]
    """One line for each unreadable table. These parts of the day are left out."""


def stored_days(settings: Settings, store: Store, days: DayRange) -> list[date]:
    """Return the days of the dataset within a range that have any data in the store, in order."""
    return [day for day in layout.days_in(store) if day in days and settings.expected_slots(day)]


def read_days(settings: Settings, store: Store, days: Sequence[date]) -> Iterator[DayContents]:
    """Describe days in order. Only a few days are read ahead, to limit memory use."""
    read = functools.partial(read_day, settings, store)
    return ordered_map(read, days, threads=settings.threads, name="adopt")


def read_day(settings: Settings, store: Store, day: date) -> DayContents:
    """Describe one day."""
    stored = StoredDay(store, day)
    raw: list[StoredFrames] = []
    processed: list[StoredFrames] = []
    damaged: list[str] = []
    shard = None
    for instrument in settings.instruments:
        try:
            if (ledger := stored.ledger(instrument)) is not None:
                raw.append(_raw(settings, stored, instrument, ledger))
        except DamagedFileError as error:
            damaged.append(str(error))
        try:
            if (table := stored.frame_table(instrument)) is not None:
                processed.append(_processed(settings, stored, instrument, table))
        except (DamagedFileError, MissingInputError) as error:
            damaged.append(str(error))
    try:
        shard = _shard(settings, stored, raw)
    except DamagedFileError as error:
        damaged.append(str(error))
    return DayContents(day, tuple(raw), tuple(processed), shard, tuple(damaged))


@dataclass(frozen=True, slots=True)
class DatasetContents:
    """The content of a store that does not belong to a single day."""

    constants: Normalization | None
    release_sums: str | None
    """SHA-256 of the SHA256SUMS file in the release that is named after the dataset."""


def read_dataset(settings: Settings, store: Store) -> DatasetContents:
    """Describe the constants and the release of a store."""
    sums = store.read_if_exists(f"{layout.release_folder(settings.name)}/{RELEASE_SUMS}")
    return DatasetContents(
        current_normalization(store), None if sums is None else hashlib.sha256(sums).hexdigest()
    )


def _raw(
    settings: Settings, stored: StoredDay, instrument: Instrument, ledger: Sequence[RawRow]
) -> StoredFrames:
    order = _channel_order(settings)
    rows = tuple(sorted(ledger, key=lambda row: (row.slot, order.get(row.channel, 99))))
    wanted = _expected(settings, stored.day, instrument)
    complete = wanted == {(row.channel, row.slot) for row in rows}
    settled = all(row.status != "outage" for row in rows)
    content = DayLedger(rows, fetched_files=0, fetched_bytes=0).content
    return StoredFrames(instrument, rows, content, complete and settled)


def _processed(
    settings: Settings, stored: StoredDay, instrument: Instrument, table: Sequence[FrameRow]
) -> StoredFrames:
    order = _channel_order(settings)
    rows = tuple(sorted(table, key=lambda row: (order.get(row.channel, 99), row.slot)))
    wanted = _expected(settings, stored.day, instrument)
    pixels = settings.resolution**2
    alike = all(s.pixels == s.frames * pixels for s in stored.sketches(instrument).values())
    complete = wanted == {(row.channel, row.slot) for row in rows}
    return StoredFrames(instrument, rows, ProcessedDay(rows, {}).content, complete and alike)


def _shard(
    settings: Settings, stored: StoredDay, raw: Sequence[StoredFrames]
) -> StoredShard | None:
    index = stored.shard_index()
    if index is None or not stored.store.exists(layout.shard(stored.day)):
        return None
    table = index.table
    columns = (table[name].to_pylist() for name in ("encoding", "dtype", "resolution"))
    wanted: tuple[str | None, str] = (None, settings.dtype)
    if settings.encoding != "npy":
        wanted = (settings.encoding, COMPACT_DTYPE)
    pixels = set(zip(*columns, strict=True)) <= {(*wanted, settings.resolution)}
    ledger = [row for part in raw for row in part.rows if isinstance(row, RawRow)]
    return StoredShard(index, pixels and not frames_not_packed(stored, ledger, index))


def _expected(settings: Settings, day: date, instrument: Instrument) -> set[tuple[str, object]]:
    return {
        (channel.name, slot)
        for channel in settings.channels_of(instrument)
        for slot in settings.expected_slots(day)
    }


def _channel_order(settings: Settings) -> dict[str, int]:
    """Return each channel's position in the build order, which is also the order for hashing."""
    return {name: place for place, name in enumerate(settings.channels)}
