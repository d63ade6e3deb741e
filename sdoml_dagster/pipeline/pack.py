"""Pack a day's shard: processed frames and frozen constants → one tar and its index.

Equal inputs give equal bytes on any machine.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.formats.index import MEASURES, Index, encode_index
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.formats.shard import FrameFacts, ShardWriter
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.transform import normalize, transform_of
from sdoml_dagster.pipeline.frozen_constants import needed_normalization
from sdoml_dagster.pipeline.unchanged import shard_inputs, usable_rows
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

    unchanged: bool = False
    """Whether the shard of an earlier run was kept, because nothing it depends on changed."""


def pack_day(
    day: date,
    *,
    settings: Settings,
    store: Store,
    report: Callable[[str], None],
    code_version: str = "",
) -> PackedDay:
    """Write a day's shard and its index.

    The shard of an earlier run is kept if it is undamaged and was made from the same frames with
    the same constants, settings and ``code_version``, which is the version of the asset.

    Raises
    ------
    MissingInputError
        If the day was not processed, or there are no constants.
    NormalizationError
        If the constants are for another resolution or lack a channel.
    """
    constants = needed_normalization(store)
    if constants.resolution != settings.resolution:
        raise NormalizationError(
            f"constants {constants.version} are for {constants.resolution} pixels, not "
            f"{settings.resolution}: set SDOML_RESOLUTION={constants.resolution}, or run "
            "fit_normalization again, then build_shards"
        )
    _check_hmi_values(constants, settings)
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
    prepare = _Preparer(day, settings, store, constants)
    room = len(rows) * (settings.resolution**2 * np.dtype(settings.dtype).itemsize + 1024)
    with store.writer(path, size=room, keep_equal=True) as file:
        writer = ShardWriter(file, dtype=settings.dtype, case=settings.member_case)
        for row, pixels, checksum in ordered_map(
            prepare, rows, threads=settings.threads, name="pack"
        ):
            channel, facts = CHANNELS[row.channel], _facts(row, constants)
            writer.add(row.slot, channel, pixels, facts, crc32=checksum)
            progress.step("ok")
        summary = writer.close()
        # A kill must not leave an index beside a shard that it does not describe.
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
    """Return the index of the day's shard if it is undamaged and was made from these inputs."""
    try:
        index = stored.shard_index()
        if index is None or index.inputs != inputs:
            return None
        found = stored.store.sha256_and_size(layout.shard(stored.day))
    except (DamagedFileError, FileNotFoundError):
        return None
    return index if found == (index.shard_sha256, index.shard_bytes) else None


def _check_hmi_values(constants: Normalization, settings: Settings) -> None:
    """Reject constants that were fitted to HMI frames with other values.

    Raises
    ------
    NormalizationError
        If the constants are for another ``SDOML_HMI_VALUES``.
    """
    fitted = constants.channels.get("HMI_M")
    if fitted and fitted.transform != transform_of("HMI_M", settings.hmi_values):
        raise NormalizationError(
            f"normalization {constants.version} is for another SDOML_HMI_VALUES than "
            f"{settings.hmi_values}: run fit_normalization again, then build_shards"
        )


def _facts(row: FrameRow, constants: Normalization) -> FrameFacts:
    return FrameFacts(
        observed=row.observed,
        exposure=row.exposure,
        quality=row.quality,
        rsun_obs=row.rsun_obs,
        degradation=row.degradation,
        constant=constants.constant(row.channel),
        transform=constants.transform(row.channel),
        **{field.name: getattr(row, field.name) for field in MEASURES},
    )


class _Preparer:
    """Reads and normalizes one frame. Shared by the threads of a day."""

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
        normalize(frame, constant, out, transform=self._constants.transform(row.channel))
        return row, out, crc32(out.data)
