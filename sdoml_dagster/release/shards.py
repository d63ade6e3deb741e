"""Write the numbered shards of a release.

A shard is a hard link to a daily shard, or a new file if it has several days or another encoding.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from sdoml_core.channels import CHANNELS, MemberCase
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.index import Index, decode_index, encode_index
from sdoml_core.formats.members import member_name, parse_member_name
from sdoml_core.formats.release_index import ShardFacts, shard_facts
from sdoml_core.formats.shard import FrameFacts, ShardWriter, decode_data, read_data
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_dagster.release.built_days import BuiltDay, damaged
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class ShardPlan:
    """A shard to write."""

    name: str
    days: tuple[BuiltDay, ...]

    @property
    def frames(self) -> int:
        """Number of frames in the shard."""
        return sum(sum(day.facts.frames.values()) for day in self.days)

    @property
    def is_daily_shard(self) -> bool:
        """Whether the shard has the same content as one daily shard."""
        return len(self.days) == 1 and self.days[0].whole


def number_shards(days: Sequence[BuiltDay], *, prefix: str, days_per_shard: int) -> list[ShardPlan]:
    """Number shards from 1. Numbers are padded to the width of the last number."""
    starts = range(0, len(days), days_per_shard)
    width = len(str(len(starts)))
    return [
        ShardPlan(f"{prefix}-{number:0{width}d}.tar", tuple(days[start : start + days_per_shard]))
        for number, start in enumerate(starts, 1)
    ]


class ShardMaker:
    """Writes the shards of a release. Thread-safe.

    Parameters
    ----------
    folder
        Folder of the release.
    store
        Store that contains the daily shards and receives the release.
    plans
        All shards of the release.
    case
        Case of the channel names in members, for shards that are not links.
    encoder
        Encoding of the release. None means the encoding of the daily shards.
    previous
        SHA-256 of each shard in the last finished release in this folder, by name. These shards are
        not written or read again if they are still the same files.
    known
        Properties of the last build's shards, by `fingerprint`. A shard that is not a link is not
        written or read again if it has the same inputs and still has the same size.
    spool
        Empty local folder for the indexes of shards that are not links.
    """

    def __init__(
        self,
        folder: str,
        store: Store,
        plans: Iterable[ShardPlan],
        *,
        case: MemberCase,
        encoder: FrameEncoder | None,
        previous: Mapping[str, str],
        known: Mapping[str, ShardFacts],
        spool: Path,
    ) -> None:
        self._folder = folder
        self._store = store
        self._plans = {plan.name: plan for plan in plans}
        self._case = case
        self._encoder = encoder
        self._previous = previous
        self._known = known
        self._sizes = store.sizes(folder)
        self._spool = spool

    def __call__(self, plan: ShardPlan) -> ShardFacts:
        """Write a shard, and return its properties under its name in the release."""
        path = f"{self._folder}/{plan.name}"
        if self._is_link(plan):
            return self._link(path, plan.name, plan.days[0])
        known = self._known.get(self.fingerprint(plan.name))
        if known is not None and self._is_kept(known, plan.name):
            return known
        return self._rewrite(path, plan)

    def index(self, name: str) -> Index:
        """Return the index of a written shard, given the shard's name."""
        plan = self._plans[name]
        if self._is_link(plan):
            return replace(plan.days[0].index(self._store), shard=name)
        if not (self._spool / name).exists():  # the shard was kept
            self._rewrite(f"{self._folder}/{name}", plan)
        return decode_index((self._spool / name).read_bytes())

    def first_member(self, name: str) -> str:
        """Return the name of the first member of a shard."""
        plan = self._plans[name]
        table = plan.days[0].index(self._store).table
        member = str(table["member"][0])
        if self._is_link(plan):
            return member
        slot, channel = parse_member_name(member)
        encoder = self._encoder_of(plan)
        encoding = plan.days[0].encoding if encoder is None else encoder.compact
        suffix = "npy" if encoding is None else "fits"
        return member_name(slot, channel, self._case, suffix=suffix)

    def fingerprint(self, name: str) -> str:
        """Return the fingerprint of the inputs of a shard. Equal inputs produce equal rows."""
        plan = self._plans[name]
        if self._is_link(plan):
            return plan.days[0].index_sha256
        encoder = self._encoder_of(plan)
        days = [(day.index_sha256, day.complete) for day in plan.days]
        inputs = days, self._case, encoder and (encoder.compact, encoder.normalization.version)
        return hashlib.sha256(repr(inputs).encode()).hexdigest()

    def _is_kept(self, known: ShardFacts, name: str) -> bool:
        """Return whether the release still has this shard, judging by its name, hash and size."""
        return (
            known.shard == name
            and self._previous.get(name) == known.sha256
            and self._sizes.get(name) == known.bytes
        )

    def _link(self, path: str, name: str, day: BuiltDay) -> ShardFacts:
        source, expected = layout.shard(day.day), day.facts.sha256
        kept = self._previous.get(name) == expected and self._store.is_same_file(source, path)
        if not kept:
            self._store.link_or_copy(source, path)
            found, _ = self._store.sha256_and_size(path)
            if found != expected:
                why = f"its SHA-256 is {found}, but its index says {expected}"
                raise damaged(self._store, day.day, why)
        return replace(day.facts, shard=name)

    def _encoder_of(self, plan: ShardPlan) -> FrameEncoder | None:
        """Return the encoder for a shard. None if the daily shards already have the encoding."""
        encoder = self._encoder
        return None if encoder is None or encoder.compact == plan.days[0].encoding else encoder

    def _is_link(self, plan: ShardPlan) -> bool:
        return plan.is_daily_shard and self._encoder_of(plan) is None

    def _rewrite(self, path: str, plan: ShardPlan) -> ShardFacts:
        first, encoder = plan.days[0].facts, self._encoder_of(plan)
        with self._store.writer(path, keep_equal=True) as file:
            if encoder is None:
                writer = ShardWriter(
                    file, dtype=str(first.dtype), case=self._case, encoding=first.encoding
                )
            else:
                writer = ShardWriter(file, case=self._case, encoding=encoder.compact)
            for day in plan.days:
                with self._store.open(layout.shard(day.day)) as source:
                    table = day.index(self._store).table
                    try:
                        if encoder is None:
                            writer.copy(source, table)
                        else:
                            _convert(source, table, writer, encoder)
                    except DamagedFileError as error:
                        raise damaged(self._store, day.day, error) from error
            summary = writer.close()
        index = Index(
            summary.table, plan.name, summary.bytes, summary.sha256, first.normalization_version
        )
        encoded = encode_index(
            index.table,
            shard=index.shard,
            shard_bytes=index.shard_bytes,
            shard_sha256=index.shard_sha256,
            normalization_version=index.normalization_version,
        )
        (self._spool / plan.name).write_bytes(encoded)
        return shard_facts(index)


def _convert(source: BinaryIO, table: pa.Table, writer: ShardWriter, encode: FrameEncoder) -> None:
    """Convert frames to another encoding by decoding and encoding them."""
    for row in table.to_pylist():
        pixels = decode_data(read_data(source, row), row).astype(np.float32, copy=False)
        facts = FrameFacts(**{name: row[name] for name in FrameFacts.__dataclass_fields__})
        frame = encode(row["channel"], pixels)
        writer.add_encoded(row["slot"], CHANNELS[row["channel"]], frame, facts)
