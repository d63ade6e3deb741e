"""A day's two tables: the ledger of its raw frames, and the table of its processed ones."""

from datetime import date

from sdoml_core.channels import Instrument
from sdoml_core.errors import MissingInputError
from sdoml_core.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_dagster import layout
from sdoml_dagster.store import Store


def read_ledger(store: Store, day: date, instrument: Instrument) -> list[RawRow] | None:
    """A day's raw ledger, or ``None`` where the day was never fetched."""
    made_by = f"raw_{instrument.lower()} of {day}"
    return store.read_as(layout.raw_ledger(day, instrument), RAW_LEDGER.decode, made_by=made_by)


def read_frame_table(store: Store, day: date, instrument: Instrument) -> list[FrameRow] | None:
    """A day's frame table, or ``None`` where the day was never processed."""
    made_by = f"processed_{instrument.lower()} of {day}"
    return store.read_as(layout.frame_table(day, instrument), FRAME_TABLE.decode, made_by=made_by)


def not_there(asset: str, day: date, store: Store) -> MissingInputError:
    """The error for a day that an earlier step has not made."""
    return MissingInputError(
        f"{asset} of {day} is not in {store.url}: run ingest for the day first"
    )
