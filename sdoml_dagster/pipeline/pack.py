"""Pack the processed frames of a day into a shard and its index, with the current constants.

The same inputs give the same bytes on any machine.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.formats.encoding import EncodedFrame
from sdoml_core.formats.index import MEASURES, Index, encode_index
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.formats.shard import FrameFacts, ShardSummary, ShardWriter
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_core.normalization.transform import normalize, transform_of
from sdoml_dagster.pipeline.frozen_constants import needed_normalization
from sdoml_dagster.pipeline.unchanged import shard_inputs, usable_rows
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map

Row = TypeVar("Row", bound=FrameRow)


@dataclass(frozen=True, slots=True)
class PackedDay:
    """The outcome of packing one day."""

    index: Index
    frames: Counter[str]
    """Number of frames in the shard, by channel."""

    complete: int
    """Number of samples that have every channel."""

    unchanged: bool = False
    """Whether the shard of an earlier run was kept because its inputs did not change."""


def pack_day(
    day: date,
    *,
    settings: Settings,
    store: Store,
    report: Callable[[str], None],
    code_version: str = "",
) -> PackedDay:
    """Write the shard of a day and its index.

    The shard of an earlier run is kept if it is undamaged and was made from the same frames with
    the same constants, settings and ``code_version`` (the version of the asset).

    Raises
    ------
    MissingInputError
        If the day was not processed, or if there are no constants.
    NormalizationError
        If the constants were fitted at a different resolution, or lack a channel.
    """
    constants = needed_normalization(store)
    check_constants(constants, settings)
    stored = StoredDay(store, day)
    rows = usable_rows(stored, settings)
    inputs = shard_inputs(rows, settings, constants, code_version=code_version)
    kept = _intact_shard(stored, inputs)
    if kept is not None:
        report(
            f"shards {day}: unchanged, {len(rows)} frames kept "
            "(same frames, constants, settings and code version)"
        )
        return _packed(kept, rows, settings, unchanged=True)
    path, index_path = layout.shard(day), layout.shard_index(day)
    store.sweep(path.rsplit("/", 1)[0])
    progress = Progress(f"shards {day}", len(rows), report)
    room = len(rows) * (settings.resolution**2 * np.dtype(settings.dtype).itemsize + 1024)
    with store.writer(path, size=room, keep_equal=True) as file:
        summary = write_frames(
            file,
            rows,
            StoredDay(store, day).frame,
            settings=settings,
            constants=constants,
            step=progress.step,
        )
        # Delete the old index before the shard is replaced. If the process is then killed, no index
        # remains beside a shard that it does not describe.
        store.delete(index_path)
    index = Index(
        summary.table,
        shard=layout.shard_name(day),
        shard_bytes=summary.bytes,
        shard_sha256=summary.sha256,
        normalization_version=constants.version,
        inputs=inputs,
    )
    encoded = encode_index(
        index.table,
        shard=index.shard,
        shard_bytes=index.shard_bytes,
        shard_sha256=index.shard_sha256,
        normalization_version=index.normalization_version,
        inputs=inputs,
    )
    store.write(index_path, encoded)
    return _packed(index, rows, settings, unchanged=False)


def _packed(
    index: Index, rows: Sequence[FrameRow], settings: Settings, *, unchanged: bool
) -> PackedDay:
    per_slot = Counter(row.slot for row in rows)
    return PackedDay(
        index,
        Counter(row.channel for row in rows),
        complete=sum(count == len(settings.channels) for count in per_slot.values()),
        unchanged=unchanged,
    )


def _intact_shard(stored: StoredDay, inputs: str) -> Index | None:
    """Return the index of the day's shard if the shard is undamaged and has these inputs."""
    try:
        index = stored.shard_index()
        if index is None or index.inputs != inputs:
            return None
        shard, index_path = layout.shard(stored.day), layout.shard_index(stored.day)
        if stored.store.unchanged_since(shard, index_path, size=index.shard_bytes):
            return index
        found = stored.store.sha256_and_size(shard)
    except (DamagedFileError, FileNotFoundError):
        return None
    return index if found == (index.shard_sha256, index.shard_bytes) else None


def check_constants(constants: Normalization, settings: Settings) -> None:
    """Reject constants that were fitted with other settings.

    Raises
    ------
    NormalizationError
        If the constants were fitted with a different resolution or ``SDOML_HMI_VALUES``.
    """
    if constants.resolution != settings.resolution:
        raise NormalizationError(
            f"constants {constants.version} were fitted at a resolution of {constants.resolution}, "
            f"not {settings.resolution}: set SDOML_RESOLUTION={constants.resolution}, or run "
            "fit_normalization again, then build_shards"
        )
    fitted = constants.channels.get("HMI_M")
    if fitted and fitted.transform != transform_of("HMI_M", settings.hmi_values):
        raise NormalizationError(
            f"constants {constants.version} were not fitted with SDOML_HMI_VALUES="
            f"{settings.hmi_values}: run fit_normalization again, then build_shards"
        )


def _facts(row: FrameRow, constants: Normalization, *, saturated: float) -> FrameFacts:
    return FrameFacts(
        observed=row.observed,
        exposure=row.exposure,
        quality=row.quality,
        rsun_obs=row.rsun_obs,
        degradation=row.degradation,
        constant=constants.constant(row.channel),
        transform=constants.transform(row.channel),
        **{field.name: getattr(row, field.name) for field in MEASURES},
        mean=row.mean,
        saturated=saturated,
    )


def write_frames(
    file: BinaryIO,
    rows: Iterable[Row],
    read: Callable[..., NDArray[np.float32]],
    *,
    settings: Settings,
    constants: Normalization,
    step: Callable[[str], None] = lambda _: None,
) -> ShardSummary:
    """Normalize frames and write them as a shard.

    Parameters
    ----------
    file
        Output file.
    rows
        Rows of the frames, sorted by slot and channel.
    read
        Called with a row and ``resolution``. Returns the processed frame, float32 (n, n).
    settings, constants
        The dataset's settings, and the constants for its channels.
    step
        Called with ``"ok"`` after each frame.
    """
    side = settings.resolution

    encode = FrameEncoder(settings.encoding, constants)

    def prepare(row: Row) -> tuple[Row, EncodedFrame, float]:
        out = np.empty((side, side), settings.dtype)
        constant, transform = constants.constant(row.channel), constants.transform(row.channel)
        normalize(read(row, resolution=side), constant, out, transform=transform)
        saturated = np.count_nonzero(out == 1) / out.size
        return row, encode(row.channel, out), saturated

    writer = ShardWriter(
        file, dtype=settings.dtype, case=settings.member_case, encoding=encode.compact
    )
    for row, frame, saturated in ordered_map(prepare, rows, threads=settings.threads, name="pack"):
        facts = _facts(row, constants, saturated=saturated)
        writer.add_encoded(row.slot, CHANNELS[row.channel], frame, facts)
        step("ok")
    return writer.close()
