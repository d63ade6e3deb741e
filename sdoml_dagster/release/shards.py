"""Write the numbered shards of a release.

A shard is a hard link to a daily shard, or a new file with several days or in another encoding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from sdoml_core.channels import CHANNELS, MemberCase
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.index import Index
from sdoml_core.formats.shard import FrameFacts, ShardWriter, decode_data, read_data
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_dagster.release.inputs import BuiltDay, damaged
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """One shard to write."""

    name: str
    days: tuple[BuiltDay, ...]

    @property
    def frames(self) -> int:
        """Number of frames in the shard."""
        return sum(day.index.table.num_rows for day in self.days)

    @property
    def is_daily_shard(self) -> bool:
        """Whether the shard has the same content as one daily shard."""
        return len(self.days) == 1 and self.days[0].whole

    def slots(self) -> set[datetime]:
        """Slots of the samples in the shard."""
        return {slot for day in self.days for slot in day.index.table["slot"].to_pylist()}


def number_shards(days: Sequence[BuiltDay], *, prefix: str, days_per_shard: int) -> list[ShardPlan]:
    """Number shards from 1, with numbers padded to the width of the last one."""
    starts = range(0, len(days), days_per_shard)
    width = len(str(len(starts)))
    return [
        ShardPlan(f"{prefix}-{number:0{width}d}.tar", tuple(days[start : start + days_per_shard]))
        for number, start in enumerate(starts, 1)
    ]


class ShardMaker:
    """Writes shards of a release. Thread-safe.

    Parameters
    ----------
    folder
        Folder of the release.
    store
        Store that has the daily shards and receives the release.
    case
        Case of the channel names in member names, for shards that are not links.
    encoder
        Encoding of the release. None keeps that of the daily shards.
    """

    def __init__(
        self, folder: str, store: Store, *, case: MemberCase, encoder: FrameEncoder | None = None
    ) -> None:
        self._folder = folder
        self._store = store
        self._case = case
        self._encoder = encoder

    def __call__(self, plan: ShardPlan) -> Index:
        """Write a shard and return its index, with the shard's name in the release."""
        path = f"{self._folder}/{plan.name}"
        encoder = self._encoder
        if encoder is not None and encoder.compact == plan.days[0].encoding:
            encoder = None
        if plan.is_daily_shard and encoder is None:
            return self._link(path, plan.name, plan.days[0])
        return self._rewrite(path, plan, encoder)

    def _link(self, path: str, name: str, day: BuiltDay) -> Index:
        self._store.link_or_copy(layout.shard(day.day), path)
        found, _ = self._store.sha256_and_size(path)
        if found != day.index.shard_sha256:
            raise damaged(
                self._store, day.day, f"SHA-256 {found}, its index says {day.index.shard_sha256}"
            )
        return replace(day.index, shard=name)

    def _rewrite(self, path: str, plan: ShardPlan, encoder: FrameEncoder | None) -> Index:
        first = plan.days[0]
        with self._store.writer(path, keep_equal=True) as file:
            if encoder is None:
                dtype = first.index.table["dtype"][0].as_py()
                writer = ShardWriter(file, dtype=dtype, case=self._case, encoding=first.encoding)
            else:
                writer = ShardWriter(file, case=self._case, encoding=encoder.compact)
            for day in plan.days:
                with self._store.open(layout.shard(day.day)) as source:
                    try:
                        if encoder is None:
                            writer.copy(source, day.index.table)
                        else:
                            _convert(source, day.index.table, writer, encoder)
                    except DamagedFileError as error:
                        raise damaged(self._store, day.day, error) from error
            summary = writer.close()
        return Index(
            summary.table,
            plan.name,
            summary.bytes,
            summary.sha256,
            first.index.normalization_version,
        )


def _convert(source: BinaryIO, table: pa.Table, writer: ShardWriter, encode: FrameEncoder) -> None:
    """Copy frames in another encoding: decode, and encode again."""
    for row in table.to_pylist():
        pixels = decode_data(read_data(source, row), row).astype(np.float32, copy=False)
        facts = FrameFacts(**{name: row[name] for name in FrameFacts.__dataclass_fields__})
        frame = encode(row["channel"], pixels)
        writer.add_encoded(row["slot"], CHANNELS[row["channel"]], frame, facts)
