"""A day's processed frames: raw files → co-registered, corrected frames, their table and sketches.

Channel by channel, so that each ``.npy`` is written once and in order, in a bounded pipeline of
threads (read → decode → resample → count) that keeps memory flat however long the day.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import Channel, Instrument
from sdoml_core.errors import DamagedFileError, FrameError, MissingInputError, SettingError
from sdoml_core.formats.ledger import FRAME_TABLE, FrameRow, RawRow
from sdoml_core.formats.sketch_file import encode_sketches
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.kernel_cache import prepare_kernels
from sdoml_core.normalization.sketch import Sketch, merge
from sdoml_dagster import asset_names
from sdoml_dagster.archive.inspection import frame_flaw
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.frame_file import FrameWriter
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class ProcessedDay:
    """The outcome of processing one instrument's day."""

    rows: tuple[FrameRow, ...]
    sketches: dict[str, Sketch]

    @property
    def content(self) -> bytes:
        """What makes one outcome another: each frame's fate and pixels."""
        fates = [
            (str(row.slot), row.channel, row.status, row.crc32, row.degradation_table)
            for row in self.rows
        ]
        return repr(fates).encode()


def process_day(
    day: date,
    instrument: Instrument,
    *,
    settings: Settings,
    store: Store,
    report: Callable[[str], None],
) -> ProcessedDay:
    """Turn a day's raw frames of one instrument into processed frames.

    Raises
    ------
    MissingInputError
        Where the day was not fetched for these settings, or its raw files have gone.
    DamagedFileError
        Where a raw file is no longer what the ledger says.
    """
    ledger = StoredDay(store, day).expected_ledger(instrument, settings)
    store.sweep(layout.processed_folder(day))
    prepare_kernels(report)
    worker = _Worker(day, settings, store)
    progress = Progress(f"{asset_names.processed(instrument)} {day}", len(ledger), report)

    rows: list[FrameRow] = []
    sketches: dict[str, Sketch] = {}
    for channel in settings.channels_of(instrument):
        mine = [row for row in ledger if row.channel == channel.name]
        counted: list[Sketch] = []
        room = sum(row.status == "ok" for row in mine) * settings.resolution**2 * 4
        with store.writer(layout.processed_frames(day, channel), size=room) as file:
            writer = FrameWriter(file, settings.resolution, frames=len(mine))
            for facts, pixels, sketch in ordered_map(
                partial(worker.process, channel=channel),
                mine,
                threads=settings.threads,
                name="process",
            ):
                rows.append(facts if pixels is None else replace(facts, row=writer.append(pixels)))
                counted += [] if sketch is None else [sketch]
                progress.step(facts.status)
            writer.close()
        sketches[channel.name] = merge(counted)
    store.write(layout.sketches(day, instrument), encode_sketches(sketches))
    # Last, since it is what says that the day is there.
    store.write(layout.frame_table(day, instrument), FRAME_TABLE.encode(rows))
    return ProcessedDay(tuple(rows), sketches)


class _Worker:
    """Processes one frame; shared by the threads of a day."""

    def __init__(self, day: date, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._day = day
        scale = settings.hmi_scale
        self._hmi_scale = GEOMETRIC_SCALE if scale == "geometric" else scale

    @cached_property
    def _degradation(self) -> tuple[DegradationTable, str]:
        """The table, which HMI does not need, and what is put on record of it."""
        table = load_degradation(self._settings)
        return table, _describe(table, self._day)

    def process(
        self, raw: RawRow, channel: Channel
    ) -> tuple[FrameRow, NDArray[np.float32] | None, Sketch | None]:
        """A frame's row, its pixels (float32, (n, n)) and their sketch."""
        facts = FrameRow(
            raw.slot,
            channel.name,
            raw.status,
            observed=raw.observed,
            exposure=raw.exposure,
            quality=raw.quality,
            rsun_obs=raw.rsun_obs,
            reason=raw.reason,
        )
        if raw.status != "ok":
            return facts, None, None
        data = self._read(raw)
        try:
            if channel.instrument == "AIA":
                facts, pixels = self._aia(data, facts, channel)
            else:
                pixels = self._hmi(data, facts)
        except FrameError as error:
            return replace(facts, status=error.status, reason=str(error)), None, None
        sketch = Sketch.of(pixels)
        facts = replace(
            facts,
            mean=sketch.mean,
            maximum=sketch.maximum,
            crc32=crc32(pixels.data),
        )
        return facts, pixels, sketch

    def _read(self, raw: RawRow) -> bytes:
        path = f"{layout.raw_folder(self._day)}/{raw.file}"
        data = self._store.read_if_exists(path)
        if data is None:
            raise MissingInputError(
                f"{self._store.locate(path)} has gone: materialise the raw assets of {self._day}"
            )
        if hashlib.sha256(data).hexdigest() != raw.sha256:
            raise DamagedFileError(
                f"{self._store.locate(path)} is not what was fetched: "
                f"materialise the raw assets of {self._day}, which fetches it anew"
            )
        return data

    def _aia(
        self, data: bytes, facts: FrameRow, channel: Channel
    ) -> tuple[FrameRow, NDArray[np.float32]]:
        frame = decode_aia(data)
        flaw = frame_flaw(frame, max_missing_fraction=self._settings.max_missing_fraction)
        if flaw is not None:
            raise flaw
        table, described = self._degradation
        factor = table.factor(self._day, channel.wavelength)
        pixels = process_aia(frame, resolution=self._settings.resolution, degradation=factor)
        corrected = replace(
            facts,
            degradation=factor,
            degradation_table=described,
            missing=frame.missing,
        )
        return corrected, pixels

    def _hmi(self, data: bytes, facts: FrameRow) -> NDArray[np.float32]:
        if facts.rsun_obs is None:
            raise DamagedFileError(f"the HMI ledger of {self._day} lacks RSUN_OBS of {facts.slot}")
        return process_hmi(
            decode_hmi(data),
            resolution=self._settings.resolution,
            rsun_obs=facts.rsun_obs,
            scale=self._hmi_scale,
        )


def load_degradation(settings: Settings) -> DegradationTable:
    """The degradation table that the settings name, or the built-in one."""
    if settings.degradation_table is None:
        return DegradationTable.default()
    path = Path(settings.degradation_table)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingError(f"SDOML_DEGRADATION_TABLE={path}: {error.strerror}") from error
    try:
        if path.suffix == ".csv":
            return DegradationTable.from_csv(data, version=path.stem)
        return DegradationTable.from_response_table(data)
    except SettingError as error:
        raise SettingError(f"SDOML_DEGRADATION_TABLE={path}: {error}") from error


def _describe(table: DegradationTable, day: date) -> str:
    """Which table a factor comes from, and whether the day lies past its calibration."""
    frozen = f", frozen after {table.calibrated_until}" if table.extrapolated(day) else ""
    return f"{table.version} ({table.sha256[:12]}){frozen}"
