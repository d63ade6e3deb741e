"""The published window: one immutable shard per slot, and an index that lists the shards.

A reader first reads the index and then the listed shards. Shards never change, and the index is
replaced atomically, so no reader ever sees a partial slot. A shard that was removed from the index
is kept for ``GRACE``, for readers that opened the previous index.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS, parse_channels
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.encoding import COMPACT_DTYPE
from sdoml_core.formats.index import Index
from sdoml_core.formats.live_table import LiveRow
from sdoml_core.formats.merge_indexes import merge_releases
from sdoml_core.formats.parquet import (
    index_metadata,
    open_parquet,
    read_columns,
    timestamps,
    write_parquet,
)
from sdoml_core.formats.release_index import consolidate, frame_fields
from sdoml_core.formats.shard import ShardSummary, ShardWriter
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_dagster.pipeline.live.state import State
from sdoml_dagster.pipeline.pack import write_frames
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.frame_file import NPY_HEADER_BYTES
from sdoml_dagster.store.store import Store

ENCODED: Final = ("dtype", "resolution", "encoding")
"""Index columns that describe how a frame's pixels are stored."""

GRACE: Final = timedelta(minutes=15)
"""Time for which a shard stays in the store after it is removed from the index."""


@dataclass(frozen=True)
class Window:
    """The index of the window in the store."""

    data: bytes
    """Bytes of the index. Empty if there is no index."""

    table: pa.Table | None
    frames: Mapping[datetime, Mapping[str, tuple[datetime | None, int]]]
    """Observed time and flags of each frame, by slot and channel."""

    shards: Mapping[datetime, str]
    """Shard name by slot."""


def read_window(store: Store, settings: Settings, constants: Normalization) -> Window:
    """Read the published index.

    If the index is damaged, or its frames have other constants or a different pixel format, return
    an empty window.
    """
    data = store.read_if_exists(layout.LIVE_INDEX) or b""
    table = _decode(data, settings, constants)
    if table is None:
        return Window(data, None, {}, {})
    shards = _shards(table)
    frames: dict[datetime, dict[str, tuple[datetime | None, int]]] = {t: {} for t in shards}
    for channel in table.schema.names[2:]:
        for time, frame in zip(shards, table.column(channel).to_pylist(), strict=True):
            if frame is not None:
                frames[time][channel] = (frame["observed"], frame["flags"] or 0)
    return Window(data, table, frames, shards)


def _decode(data: bytes, settings: Settings, constants: Normalization) -> pa.Table | None:
    try:
        table = read_columns(open_parquet(data)) if data else None
        facts = {} if table is None else index_metadata(table.schema, kind="release")
    except DamagedFileError:
        return None
    same = facts.get("sdoml.normalization") == constants.version and facts.get(
        "sdoml.pixels"
    ) == _pixels(settings, constants)
    return table if same else None


def _pixels(settings: Settings, constants: Normalization) -> str:
    """Return the JSON text that describes the pixel format in an index."""
    compact = FrameEncoder(settings.encoding, constants).compact
    pixels: dict[str, object] = {"dtype": settings.dtype, "resolution": settings.resolution}
    if compact is not None:
        pixels |= {"dtype": COMPACT_DTYPE, "encoding": compact}
    return json.dumps(pixels, sort_keys=True)


def has_pixels_of(index: Index, settings: Settings, constants: Normalization) -> bool:
    """Return whether a definitive day stores its frames in the same way as the window."""
    wanted = json.loads(_pixels(settings, constants))
    columns = {name: index.table.column(name).unique().to_pylist() for name in ENCODED}
    return all(set(found) <= {wanted.get(name)} for name, found in columns.items())


def _shards(table: pa.Table) -> dict[datetime, str]:
    """Return the shard name of each slot."""
    times = [_utc(slot) for slot in timestamps(table.column("slot")).tolist()]
    return dict(zip(times, table.column("shard").to_pylist(), strict=True))


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC)


def is_published(window: Window, slot: datetime, rows: Sequence[LiveRow]) -> bool:
    """Return whether the published slot has exactly these frames."""
    usable = {row.channel: (row.observed, row.flags or 0) for row in rows if row.status == "ok"}
    return dict(window.frames.get(slot, {})) == usable


def pack_slot(
    rows: Sequence[LiveRow], *, settings: Settings, store: Store, constants: Normalization
) -> Index | None:
    """Write a slot's shard and return its index, or None if the slot has no frames.

    Raises
    ------
    DamagedFileError
        If a frame in the store does not match the table.
    """
    usable = sorted((row for row in rows if row.status == "ok"), key=lambda row: row.channel)
    if not usable:
        return None

    def read(row: LiveRow, *, resolution: int) -> NDArray[np.float32]:
        return read_frame(store, row, resolution=resolution)

    sink = io.BytesIO()
    summary = write_frames(sink, usable, read, settings=settings, constants=constants)
    return _publish(usable[0].slot, sink, summary, store=store, version=constants.version)


def copy_slot(slot: datetime, source: BinaryIO, index: Index, *, store: Store) -> Index | None:
    """Copy a slot's shard from a definitive day. Returns None if the day lacks the slot."""
    table = index.table
    mine = [time == slot for time in table.column("slot").to_pylist()]
    rows = table.filter(pa.array(mine, pa.bool_()))
    if not len(rows):
        return None
    sink = io.BytesIO()
    member = rows.column("member")[0].as_py()
    writer = ShardWriter(
        sink,
        dtype=rows.column("dtype")[0].as_py(),
        case="lower" if member == member.lower() else "upper",
        encoding=rows.column("encoding")[0].as_py(),
    )
    writer.copy(source, rows)
    return _publish(slot, sink, writer.close(), store=store, version=index.normalization_version)


def _publish(
    slot: datetime, sink: io.BytesIO, summary: ShardSummary, *, store: Store, version: str
) -> Index:
    path = layout.live_shard(slot, summary.sha256)
    if not store.exists(path):  # the name contains the hash of the content
        store.write(path, sink.getvalue())
    return Index(
        summary.table, layout.live_shard_name(path), summary.bytes, summary.sha256, version
    )


def read_frame(store: Store, row: LiveRow, *, resolution: int) -> NDArray[np.float32]:
    """Read and check a processed near-real-time frame, float32 (n, n).

    Raises
    ------
    DamagedFileError
        If the frame is missing or does not match the row.
    """
    data = store.read_if_exists(layout.live_frame(row.slot, row.channel)) or b""
    pixels = data[NPY_HEADER_BYTES:]
    if len(pixels) != resolution * resolution * 4 or crc32(pixels) != row.crc32:
        raise DamagedFileError(
            f"{store.locate(layout.live_frame(row.slot, row.channel))} is missing or damaged"
        )
    return np.frombuffer(pixels, "<f4").reshape(resolution, resolution)


def publish(
    window: Window,
    changed: Mapping[datetime, Index | None],
    *,
    settings: Settings,
    store: Store,
    constants: Normalization,
    start: datetime,
) -> Window:
    """Replace the index: add the changed slots, and remove the slots before ``start``.

    Returns
    -------
    The current window. Its ``frames`` do not include the changed slots.
    """
    if window.table is not None and not changed and min(window.shards, default=start) >= start:
        return window
    # Read the index again, because a manually launched update may have replaced it in the meantime.
    data = store.read_if_exists(layout.LIVE_INDEX) or b""
    if data != window.data:
        table = _decode(data, settings, constants)
        window = Window(data, table, window.frames, {} if table is None else _shards(table))
    kept = {s: name for s, name in window.shards.items() if s >= start and s not in changed}
    keep = set(kept.values())
    added = [index for index in changed.values() if index is not None]
    if window.table is not None and not added and len(keep) == len(window.shards):
        return window
    table = read_columns(open_parquet(consolidate(added)))
    if window.table is not None and keep:
        table = merge_releases(window.table, keep, table)
    table = _canonical(_with_all_channels(table, settings, constants))
    data = write_parquet(table)
    store.write(layout.LIVE_INDEX, data)
    new = {slot: index.shard for slot, index in changed.items() if index is not None}
    frames = {slot: own for slot, own in window.frames.items() if slot in kept}
    return Window(data, table, frames, kept | new)


def _with_all_channels(table: pa.Table, settings: Settings, constants: Normalization) -> pa.Table:
    """Add a column of missing frames for each channel that has no frames in the window.

    A model needs all of its channels, so a channel without frames must appear as a gap.
    """
    facts = dict(table.schema.metadata)
    known = json.loads(facts[b"sdoml.channels"])
    columns = {name: table.column(name) for name in table.schema.names}
    encoder = FrameEncoder(settings.encoding, constants)
    compact = encoder.compact is not None
    kind = pa.struct(frame_fields(compact=compact, bright=True))
    for channel in parse_channels(settings.channels):
        name = channel.name
        columns.setdefault(name, pa.nulls(len(table), kind))
        known[name] = {
            "constant": constants.constant(name),
            "transform": constants.transform(name),
            **({"step": encoder.step(name)} if compact else {}),
        }
    facts[b"sdoml.channels"] = json.dumps(known, sort_keys=True).encode()
    facts[b"sdoml.pixels"] = _pixels(settings, constants).encode()
    facts[b"sdoml.normalization"] = constants.version.encode()
    names = ["slot", "shard", *(name for name in CHANNELS if name in columns)]
    return pa.table({name: columns[name] for name in names}).replace_schema_metadata(facts)


def _canonical(table: pa.Table) -> pa.Table:
    """Return the table in canonical form, so that equal windows have equal bytes."""
    place = table.schema.get_field_index("shard")
    names = pa.array(table.column("shard").to_pylist(), pa.string()).dictionary_encode()
    return table.set_column(place, "shard", names).combine_chunks()


def retire(store: Store, window: Window, state: State, now: datetime) -> int:
    """Delete shards that left the window more than ``GRACE`` ago. Returns how many."""
    used = {f"{layout.LIVE}/{name}" for name in window.shards.values()}
    unused = layout.live_shards(store) - used
    since = {path: state.retired.get(path, now) for path in unused}
    old = [path for path, time in since.items() if now - time >= GRACE]
    for path in old:
        store.delete(path)
        del since[path]
    state.retired = since
    return len(old)
