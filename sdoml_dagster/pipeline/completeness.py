"""Check whether a day's shard contains every available frame."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_core.formats.index import Index
from sdoml_core.formats.ledger import RawRow
from sdoml_core.frames.flags import is_provisional
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store


def days_due(settings: Settings, store: Store, *, today: date) -> Iterator[date]:
    """Return the incomplete days in the look-back window, in order."""
    for age in range(settings.lookback_days - 1, -1, -1):
        # Without a publication lag, the newest day is yesterday, because today has no partition
        # yet.
        day = today - timedelta(days=max(settings.publication_lag_days, 1) + age)
        in_range = settings.start.date() <= day and (
            settings.last_day is None or day <= settings.last_day
        )
        if in_range and not is_complete(settings, StoredDay(store, day)):
            yield day


def is_complete(settings: Settings, stored: StoredDay) -> bool:
    """Return whether a day's shard has every frame that the archive has or may still publish."""
    rows: list[RawRow] = []
    try:
        index = stored.shard_index()
        if index is None:
            return False
        for instrument in INSTRUMENTS:
            if settings.channels_of(instrument):
                ledger = stored.ledger(instrument) or []
                if any(
                    row.status in {"missing", "outage"} or is_provisional(row.flags)
                    for row in ledger
                ):
                    return False
                rows += stored.expected_ledger(instrument, settings)
        return not frames_not_packed(stored, rows, index)
    # The day is damaged, or was not built with these settings.
    except (DamagedFileError, MissingInputError):
        return False


def frames_not_packed(stored: StoredDay, ledger: Iterable[RawRow], index: Index) -> list[RawRow]:
    """Return the ledger rows of good frames that are neither in the shard nor rejected.

    A better frame that replaces another frame is treated as a different frame: it was observed at a
    different time, or is the definitive version of a provisional frame.
    """
    columns = (index.table[name].to_pylist() for name in ("slot", "channel", "observed", "flags"))
    done = {
        (slot, channel, observed, is_provisional(flags))
        for slot, channel, observed, flags in zip(*columns, strict=True)
    }
    for instrument in INSTRUMENTS:
        table = stored.frame_table(instrument) or ()
        # A frame that was unavailable when the day was processed was not rejected.
        done |= {
            (row.slot, row.channel, row.observed, is_provisional(row.flags))
            for row in table
            if row.status not in {"ok", "missing", "outage"}
        }
    good = (row for row in ledger if row.status == "ok")
    return [
        row
        for row in good
        if (row.slot, row.channel, row.observed, is_provisional(row.flags)) not in done
    ]
