"""A day's two tables: the ledger of its raw frames, and the table of its processed ones."""

from collections.abc import Iterable
from datetime import date
from typing import TypeVar

from sdoml_core.channels import Instrument
from sdoml_core.errors import MissingInputError
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

Row = TypeVar("Row", RawRow, FrameRow)


def read_ledger(store: Store, day: date, instrument: Instrument) -> list[RawRow] | None:
    """A day's raw ledger, or ``None`` where the day was never fetched."""
    made_by = f"raw_{instrument.lower()} of {day}"
    return store.read_as(layout.raw_ledger(day, instrument), RAW_LEDGER.decode, made_by=made_by)


def read_frame_table(store: Store, day: date, instrument: Instrument) -> list[FrameRow] | None:
    """A day's frame table, or ``None`` where the day was never processed."""
    made_by = f"processed_{instrument.lower()} of {day}"
    return store.read_as(layout.frame_table(day, instrument), FRAME_TABLE.decode, made_by=made_by)


def asked_for(
    table: Iterable[Row], asset: str, day: date, instrument: Instrument, settings: Settings
) -> list[Row]:
    """The rows of the frames that these settings ask for, by channel and slot.

    Raises
    ------
    MissingInputError
        Where the asset was made for others, of another cadence say, and lacks some.
    """
    rows = {(row.channel, row.slot): row for row in table}
    wanted = [
        (channel.name, slot)
        for channel in settings.channels_of(instrument)
        for slot in settings.expected_slots(day)
    ]
    absent = [key for key in wanted if key not in rows]
    if absent:
        channel, slot = absent[0]
        raise MissingInputError(
            f"{asset} of {day} was made for other settings: {len(absent)} of {len(wanted)} frames "
            f"are not in its table, such as {channel} at {slot:%H:%M}; run ingest for the day again"
        )
    return [rows[key] for key in wanted]


def not_there(asset: str, day: date, store: Store) -> MissingInputError:
    """The error for a day that an earlier step has not made."""
    return MissingInputError(
        f"{asset} of {day} is not in {store.url}: run ingest for the day first"
    )
