"""Process a day's raw files into co-registered, corrected frames, with a table and sketches.

Channels are processed one after another, so that each ``.npy`` is written once and in order. A
bounded pipeline of threads (read → decode → resample → count) uses a constant amount of memory,
regardless of the number of frames.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import Channel, Instrument
from sdoml_core.errors import DamagedFileError, FrameError, MissingInputError
from sdoml_core.formats.holes import encode_holes
from sdoml_core.formats.ledger import FRAME_TABLE, FrameRow, RawRow
from sdoml_core.formats.sketch_file import encode_sketches
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.content import Content
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.flags import flag_mask
from sdoml_core.frames.grid import DISK_RADIUS, GEOMETRIC_SCALE
from sdoml_core.frames.hmi import process_hmi
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.frames.judge_hmi import inspect_hmi
from sdoml_core.frames.neighbors import Comparison, Look, compare_with_neighbors
from sdoml_core.frames.pointing import MIDDLE, Pointing
from sdoml_core.kernel_cache import prepare_kernels
from sdoml_core.normalization.sketch import Sketch, merge
from sdoml_dagster import asset_names
from sdoml_dagster.pipeline.degradation_table import load_degradation
from sdoml_dagster.pipeline.unchanged import intact_frames, processed_inputs
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.frame_file import FrameWriter
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map


@dataclass(frozen=True, slots=True)
class ProcessedDay:
    """The outcome of processing one instrument's frames for a day."""

    rows: tuple[FrameRow, ...]
    sketches: dict[str, Sketch]
    unchanged: bool = False
    """Whether the files of an earlier run were kept because their inputs did not change."""

    @property
    def content(self) -> bytes:
        """Bytes that identify the outcome: the status, pixel checksum and flags of each frame."""
        fates = [
            (str(row.slot), row.channel, row.status, row.crc32, row.degradation_table)
            + ((row.flags,) if row.flags else ())
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
    code_version: str = "",
) -> ProcessedDay:
    """Process one instrument's raw frames for a day.

    The files of an earlier run are kept if they are undamaged and were made from the same raw
    frames with the same settings and ``code_version`` (the version of the asset).

    Raises
    ------
    MissingInputError
        If the day was not fetched with these settings, or its raw files are missing.
    DamagedFileError
        If a raw file does not match the ledger.
    """
    ledger = StoredDay(store, day).expected_ledger(instrument, settings)
    inputs = processed_inputs(
        ledger,
        settings,
        code_version=code_version,
        degradation=load_degradation(settings, store).sha256 if instrument == "AIA" else None,
    )
    kept = intact_frames(StoredDay(store, day), instrument, settings, inputs)
    if kept is not None:
        rows, sketches = kept
        report(
            f"{asset_names.processed(instrument)} {day}: unchanged, {len(rows)} frames kept "
            "(same raw frames, settings and code version)"
        )
        return ProcessedDay(tuple(rows), sketches, unchanged=True)
    store.sweep(layout.processed_folder(day))
    prepare_kernels(report)
    worker = FrameProcessor(day, settings, store)
    progress = Progress(f"{asset_names.processed(instrument)} {day}", len(ledger), report)

    rows, sketches = [], {}
    for channel in settings.channels_of(instrument):
        mine = [row for row in ledger if row.channel == channel.name]
        done: list[FrameRow] = []
        counted: list[Sketch] = []
        looks: dict[int, Look] = {}
        room = sum(row.status == "ok" for row in mine) * settings.resolution**2 * 4
        with store.writer(
            layout.processed_frames(day, channel), size=room, keep_equal=True
        ) as file:
            writer = FrameWriter(file, settings.resolution, frames=len(mine))
            for frame in ordered_map(
                partial(worker.process_stored, channel=channel),
                mine,
                threads=settings.threads,
                name="process",
            ):
                row = frame.row
                if frame.pixels is not None and frame.sketch is not None:
                    row = replace(row, row=writer.append(frame.pixels))
                    counted.append(frame.sketch)
                if frame.look is not None:
                    looks[len(done)] = frame.look
                done.append(row)
                progress.step(row.status)
            writer.close()
        comparisons = compare_with_neighbors(list(looks.values()))
        for number, comparison in zip(looks, comparisons, strict=True):
            done[number] = _with_comparison(done[number], comparison)
        rows += done
        sketches[channel.name] = merge(counted)
    store.write(layout.sketches(day, instrument), encode_sketches(sketches))
    # Write the frame table last, because it marks the day as processed.
    store.write(layout.frame_table(day, instrument), FRAME_TABLE.encode(rows, inputs=inputs))
    return ProcessedDay(tuple(rows), sketches)


@dataclass(frozen=True, slots=True, eq=False)
class ProcessedFrame:
    """A processed frame: its row and, if it is usable, its pixels (float32, (n, n)) and sketch."""

    row: FrameRow
    pixels: NDArray[np.float32] | None = None
    sketch: Sketch | None = None
    look: Look | None = None


def _with_measures(row: FrameRow, content: Content, pointing: Pointing, side: int) -> FrameRow:
    """Return a row with the measurements of its disk. Distances are in pixels of the frame."""
    unit = DISK_RADIUS * side
    moved = not pointing.registered
    return replace(
        row,
        center_x=None if content.center is None else content.center[0] * unit,
        # Row 0 is south in a raw frame and north in a processed frame.
        center_y=None if content.center is None else -content.center[1] * unit,
        radius=None if content.radius is None else content.radius * unit,
        visible=content.visible,
        sky=content.sky,
        shift_x=MIDDLE - pointing.x if moved else None,
        shift_y=pointing.y - MIDDLE if moved else None,
        roll=pointing.roll if moved else None,
    )


def _with_comparison(row: FrameRow, comparison: Comparison) -> FrameRow:
    return replace(
        row,
        flags=(row.flags or 0) | flag_mask(comparison.flags),
        brightness=comparison.brightness,
        similarity=comparison.similarity,
    )


class FrameProcessor:
    """Processes single frames of a day. Several threads share one instance."""

    def __init__(self, day: date, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._day = day
        scale = settings.hmi_scale
        self._hmi_scale = GEOMETRIC_SCALE if scale == "geometric" else scale

    @cached_property
    def _degradation(self) -> tuple[DegradationTable, str]:
        """Return the degradation table, and its description for the frame table."""
        table = load_degradation(self._settings, self._store)
        return table, _describe(table, self._day)

    def process_stored(self, raw: RawRow, channel: Channel) -> ProcessedFrame:
        """Process the raw file of a ledger row."""
        return self.process(raw, self._read(raw) if raw.status == "ok" else b"", channel)

    def process(self, raw: RawRow, data: bytes, channel: Channel) -> ProcessedFrame:
        """Process one raw file. If the frame is unusable, the row states the reason.

        Parameters
        ----------
        raw
            Row of the raw ledger.
        data
            The raw file. Ignored if the row has no frame.
        channel
            Channel of the frame.
        """
        facts = FrameRow(
            raw.slot,
            channel.name,
            raw.status,
            observed=raw.observed,
            exposure=raw.exposure,
            quality=raw.quality,
            rsun_obs=raw.rsun_obs,
            reason=raw.reason,
            flags=raw.flags,
        )
        if raw.status != "ok":
            return ProcessedFrame(facts)
        look = None
        try:
            if channel.instrument == "AIA":
                facts, pixels, look = self._aia(data, facts, channel)
            else:
                facts, pixels = self._hmi(data, facts)
        except FrameError as error:
            return ProcessedFrame(replace(facts, status=error.status, reason=str(error)))
        sketch = Sketch.of(pixels)
        facts = replace(
            facts,
            mean=sketch.mean,
            maximum=sketch.maximum,
            crc32=crc32(pixels.data),
        )
        return ProcessedFrame(facts, pixels, sketch, look)

    def _read(self, raw: RawRow) -> bytes:
        path = f"{layout.raw_folder(self._day)}/{raw.file}"
        data = self._store.read_if_exists(path)
        if data is None:
            raise MissingInputError(
                f"{self._store.locate(path)} is missing: "
                f"materialize the raw assets of {self._day} to fetch it again"
            )
        if hashlib.sha256(data).hexdigest() != raw.sha256:
            self._store.suspect(path)
            raise DamagedFileError(
                f"{self._store.locate(path)} does not match the ledger: "
                f"materialize the raw assets of {self._day} to fetch it again"
            )
        return data

    def _aia(
        self, data: bytes, facts: FrameRow, channel: Channel
    ) -> tuple[FrameRow, NDArray[np.float32], Look]:
        frame = decode_aia(data)
        judgment = judge_aia(frame, max_missing_fraction=self._settings.max_missing_fraction)
        if judgment.flaw is not None:
            raise judgment.flaw
        if judgment.content is None:
            raise AssertionError("a usable frame has no measurements")
        table, described = self._degradation
        factor = table.factor(self._day, channel.wavelength)
        side = self._settings.resolution
        missing = np.empty((side, side), np.bool_)
        pixels = process_aia(frame, resolution=side, degradation=factor, holes=missing)
        look = Look(
            frame.observed,
            judgment.content.level / (frame.exposure * factor),
            judgment.content.thumbnail,
        )
        row = replace(
            facts,
            degradation=factor,
            degradation_table=described,
            missing=frame.missing,
            flags=flag_mask(judgment.flags),
            level=look.level,
            holes=encode_holes(missing) if frame.missing else None,
        )
        return _with_measures(row, judgment.content, frame.pointing, side), pixels, look

    def _hmi(self, data: bytes, facts: FrameRow) -> tuple[FrameRow, NDArray[np.float32]]:
        if facts.rsun_obs is None:
            raise DamagedFileError(
                f"the HMI ledger of {self._day} has no RSUN_OBS for {facts.slot}"
            )
        picture = inspect_hmi(data, rsun_obs=facts.rsun_obs)
        side = self._settings.resolution
        pixels = process_hmi(
            picture.rgb,
            resolution=side,
            rsun_obs=facts.rsun_obs,
            scale=self._hmi_scale,
            values=self._settings.hmi_values,
            center=picture.center,
            whole="partial_disk" not in picture.flags,
        )
        measures = picture.measures(resolution=side, rsun_obs=facts.rsun_obs, scale=self._hmi_scale)
        row = replace(
            facts,
            flags=flag_mask(picture.flags),
            values=self._settings.hmi_values,
            **measures,  # type: ignore[arg-type]  # columns of numbers
        )
        return row, pixels


def _describe(table: DegradationTable, day: date) -> str:
    """Describe the table, and state whether the day is after the table's last calibration."""
    frozen = f", frozen after {table.calibrated_until}" if table.extrapolated(day) else ""
    return f"{table.version} ({table.sha256[:12]}){frozen}"
