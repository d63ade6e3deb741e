"""A day's shard: processed frames and frozen constants → one deterministic tar with its index."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.errors import NormalizationError
from sdoml_core.formats.index import MEASURES, Index, encode_index
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.transform import normalize, transform_of
from sdoml_dagster.pipeline.frozen_constants import needed_normalization
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class PackedDay:
    """The outcome of packing one day."""

    index: Index
    frames: Counter[str]
    """Frames in the shard by channel."""

    complete: int
    """Samples that have every channel."""


def pack_day(
    day: date, *, settings: Settings, store: Store, report: Callable[[str], None]
) -> PackedDay:
    """Write a day's shard and its index.

    Raises
    ------
    MissingInputError
        Where the day was not processed, or there are no constants.
    NormalizationError
        Where the constants are for another resolution or lack a channel.
    """
    constants = needed_normalization(store)
    if constants.resolution != settings.resolution:
        raise NormalizationError(
            f"normalisation {constants.version} is for {constants.resolution} pixels, not "
            f"{settings.resolution}: set SDOML_RESOLUTION={constants.resolution}, or run "
            "fit_normalization again, then build_shards"
        )
    rows = _usable_rows(store, day, settings)
    path, index_path = layout.shard(day), layout.shard_index(day)
    store.sweep(path.rsplit("/", 1)[0])
    progress = Progress(f"shards {day}", len(rows), report)
    prepare = _Preparer(day, settings, store, constants)
    room = len(rows) * (settings.resolution**2 * np.dtype(settings.dtype).itemsize + 1024)
    with store.writer(path, size=room) as file:
        writer = ShardWriter(file, dtype=settings.dtype, case=settings.member_case)
        for row, pixels, checksum in ordered_map(
            prepare, rows, threads=settings.threads, name="pack"
        ):
            channel, facts = CHANNELS[row.channel], _facts(row, constants)
            writer.add(row.slot, channel, pixels, facts, crc32=checksum)
            progress.step("ok")
        summary = writer.close()
        # An index never lies beside a shard that it does not describe.
        store.delete(index_path)
    index = Index(
        summary.table,
        shard=layout.shard_name(day),
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version=constants.version,
    )
    encoded = encode_index(
        index.table,
        shard=index.shard,
        shard_bytes=index.shard_bytes,
        shard_sha256=index.shard_sha256,
        normalization_version=index.normalization_version,
    )
    store.write(index_path, encoded)
    per_slot = Counter(row.slot for row in rows)
    return PackedDay(
        index,
        Counter(row.channel for row in rows),
        complete=sum(count == len(settings.channels) for count in per_slot.values()),
    )


def _usable_rows(store: Store, day: date, settings: Settings) -> list[FrameRow]:
    """Rows of the frames that go into the shard, in its order."""
    rows: list[FrameRow] = []
    for instrument in INSTRUMENTS:
        if not settings.channels_of(instrument):
            continue
        wanted = StoredDay(store, day).expected_frame_table(instrument, settings)
        rows += [row for row in wanted if row.status == "ok"]
    return sorted(rows, key=lambda row: (row.slot, row.channel))


def _facts(row: FrameRow, constants: Normalization) -> FrameFacts:
    return FrameFacts(
        observed=row.observed,
        exposure=row.exposure,
        quality=row.quality,
        rsun_obs=row.rsun_obs,
        degradation=row.degradation,
        constant=constants.constant(row.channel),
        transform=transform_of(row.channel),
        **{field.name: getattr(row, field.name) for field in MEASURES},
    )


class _Preparer:
    """Reads and normalises one frame; shared by the threads of a day."""

    def __init__(
        self, day: date, settings: Settings, store: Store, constants: Normalization
    ) -> None:
        self._day = StoredDay(store, day)
        self._settings = settings
        self._constants = constants

    def __call__(
        self, row: FrameRow
    ) -> tuple[FrameRow, NDArray[np.float32] | NDArray[np.float16], int]:
        side = self._settings.resolution
        out = np.empty((side, side), self._settings.dtype)
        constant = self._constants.constant(row.channel)
        frame = self._day.frame(row, resolution=side)
        normalize(frame, constant, out, transform=transform_of(row.channel))
        return row, out, crc32(out.data)
