"""Read the files of one day in the store.

Each method reads and checks one file. If the file is damaged, the error names the file and the
asset to materialize again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS, Instrument
from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_dagster import asset_names
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.frame_file import NPY_HEADER_BYTES
from sdoml_dagster.store.store import Store

if TYPE_CHECKING:  # slow to import, and most callers do not need them
    from sdoml_core.formats.index import Index
    from sdoml_core.normalization.sketch import Sketch

Row = TypeVar("Row", RawRow, FrameRow)


@dataclass(frozen=True, slots=True)
class StoredDay:
    """Reads the files of one UTC day.

    Parameters
    ----------
    store
        The store that contains the day.
    day
        The UTC day.
    """

    store: Store
    day: date

    def ledger(self, instrument: Instrument) -> list[RawRow] | None:
        """Read the raw ledger, or return ``None`` if the day was never fetched."""
        return self.store.read_as(
            layout.raw_ledger(self.day, instrument),
            RAW_LEDGER.decode,
            made_by=f"{asset_names.raw(instrument)} of {self.day}",
        )

    def frame_table(self, instrument: Instrument) -> list[FrameRow] | None:
        """Read the table of processed frames, or return ``None`` if the day was never processed."""
        return self.store.read_as(
            layout.frame_table(self.day, instrument),
            FRAME_TABLE.decode,
            made_by=f"{asset_names.processed(instrument)} of {self.day}",
        )

    def processed_inputs(self, instrument: Instrument) -> str | None:
        """Read the fingerprint of the day's inputs, or return ``None`` if it was not recorded."""
        return self.store.read_as(
            layout.frame_table(self.day, instrument),
            FRAME_TABLE.inputs,
            made_by=f"{asset_names.processed(instrument)} of {self.day}",
        )

    def expected_ledger(self, instrument: Instrument, settings: Settings) -> list[RawRow]:
        """Read the rows of the raw ledger that the settings require, sorted by channel and slot.

        Raises
        ------
        MissingInputError
            If the day was never fetched, or was fetched with other settings and lacks frames.
        """
        rows = self.ledger(instrument)
        return self._expected(rows, asset_names.raw(instrument), instrument, settings)

    def expected_frame_table(self, instrument: Instrument, settings: Settings) -> list[FrameRow]:
        """Read the rows of the frame table that the settings require, sorted by channel and slot.

        Raises
        ------
        MissingInputError
            If the day was never processed, or was processed with other settings and lacks frames.
        """
        rows = self.frame_table(instrument)
        return self._expected(rows, asset_names.processed(instrument), instrument, settings)

    def sketches(self, instrument: Instrument) -> dict[str, "Sketch"]:
        """Read the sketches of the processed pixels, by channel.

        Raises
        ------
        MissingInputError
            If the day has no sketches.
        """
        from sdoml_core.formats.sketch_file import decode_sketches

        made_by = f"{asset_names.processed(instrument)} of {self.day}"
        path = layout.sketches(self.day, instrument)
        sketches = self.store.read_as(path, decode_sketches, made_by=made_by)
        if sketches is None:
            raise MissingInputError(
                f"{self.store.locate(path)} is missing: materialize {made_by} again"
            )
        return sketches

    def frame(self, row: FrameRow, *, resolution: int) -> NDArray[np.float32]:
        """Read a processed frame, float32 (n, n), and check it against the frame table.

        Raises
        ------
        DamagedFileError
            If the file does not contain the frame that the table describes.
        """
        path = layout.processed_frames(self.day, CHANNELS[row.channel])
        size = resolution * resolution * 4
        start = NPY_HEADER_BYTES + (row.row or 0) * size
        data = self.store.read_range(path, start, start + size)
        if len(data) != size or crc32(data) != row.crc32:
            self.store.suspect(path)
            raise DamagedFileError(
                f"{self.store.locate(path)} does not contain frame {row.row} of its frame table at "
                f"{resolution}×{resolution} (it is damaged, or was processed at a different "
                f"resolution): materialize the processed assets of {self.day} again"
            )
        return np.frombuffer(data, "<f4").reshape(resolution, resolution)

    def shard_index(self) -> "Index | None":
        """Read the index of the day's shard, or return ``None`` if the day has no index."""
        from sdoml_core.formats.index import decode_index

        return self.store.read_as(
            layout.shard_index(self.day), decode_index, made_by=f"shards of {self.day}"
        )

    def shard_size(self) -> int | None:
        """Return the size of the day's shard in bytes, or ``None`` if the day has no shard."""
        folder, _, name = layout.shard(self.day).rpartition("/")
        return self.store.sizes(folder).get(name)

    def shard_frame(self, row: Mapping[str, Any]) -> NDArray[np.floating[Any]]:
        """Read one frame of the day's shard, given its row in the index."""
        return read_shard_frame(self.store, layout.shard(self.day), row)

    def _expected(
        self,
        table: Iterable[Row] | None,
        asset: str,
        instrument: Instrument,
        settings: Settings,
    ) -> list[Row]:
        if table is None:
            raise self.missing(asset)
        rows = {(row.channel, row.slot): row for row in table}
        wanted = [
            (channel.name, slot)
            for channel in settings.channels_of(instrument)
            for slot in settings.expected_slots(self.day)
        ]
        absent = [key for key in wanted if key not in rows]
        if absent:
            channel, slot = absent[0]
            raise MissingInputError(
                f"{asset} of {self.day} was made with other settings: {len(absent)} of "
                f"{len(wanted)} frames are not in its table (first: {channel} at {slot:%H:%M}). "
                "Run ingest for the day again"
            )
        return [rows[key] for key in wanted]

    def missing(self, asset: str) -> MissingInputError:
        """Create the error for a day that the previous step has not built."""
        return MissingInputError(
            f"{asset} of {self.day} is not in {self.store.url}: run ingest for the day first"
        )


def read_shard_frame(store: Store, shard: str, row: Mapping[str, Any]) -> NDArray[np.floating[Any]]:
    """Read the frame that a row of a shard's index describes, shape (n, n).

    Parameters
    ----------
    store
        The store that contains the shard.
    shard
        Path of the shard.
    row
        The frame's row in the shard's index.

    Returns
    -------
    Normalized pixels. The dtype is that of the npy shard, or float32 for compact shards.
    """
    from sdoml_core.formats.shard import decode_data

    start = row["data_offset"]
    size = row["data_size"] or row["offset"] + row["size"] - start
    return decode_data(store.read_range(shard, start, start + size), row)
