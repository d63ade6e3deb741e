"""Good raw frames of a day that have not come into its shard, though nothing is wrong with them.

A frame that a better one has replaced since is another frame: it was observed at another time.
"""

from collections.abc import Iterable
from datetime import date

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.formats.index import Index
from sdoml_core.formats.ledger import RawRow
from sdoml_dagster.store.day_tables import read_frame_table
from sdoml_dagster.store.store import Store


def leftovers(store: Store, day: date, ledger: Iterable[RawRow], index: Index) -> list[RawRow]:
    """Rows of the ledger with a frame that is neither in the shard nor rejected in processing."""
    done = set(
        zip(
            *(index.table[name].to_pylist() for name in ("slot", "channel", "observed")),
            strict=True,
        )
    )
    for instrument in INSTRUMENTS:
        table = read_frame_table(store, day, instrument) or ()
        # A frame that had not come when the day was processed was not rejected.
        done |= {
            (row.slot, row.channel, row.observed)
            for row in table
            if row.status not in {"ok", "missing", "outage"}
        }
    good = (row for row in ledger if row.status == "ok")
    return [row for row in good if (row.slot, row.channel, row.observed) not in done]
