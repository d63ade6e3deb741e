"""Decide whether a day needs work, so that unchanged results are not rebuilt.

Each frame table and each shard index records a fingerprint of its inputs: the rows of the previous
step, the settings and the code version. A step whose fingerprint is unchanged and whose files are
intact keeps its files. Files that were written before the table or index that describes them are
considered intact if they have the right size. Other files are read and compared with the table or
index.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from sdoml_core.channels import INSTRUMENTS, Instrument
from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_core.formats.ledger import FrameRow, RawRow
from sdoml_core.frames.flags import is_provisional
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.sketch import Sketch
from sdoml_dagster import asset_names
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.frame_file import frame_file_size

_NOT_INPUTS = {"file", "url", "bytes", "candidates"}
"""Columns of the raw ledger that describe the source of a frame, not its content."""


def processed_inputs(
    ledger: Iterable[RawRow], settings: Settings, *, code_version: str, degradation: str | None
) -> str:
    """Return the fingerprint of a processed day.

    Parameters
    ----------
    ledger
        Rows of the raw ledger that the settings expect.
    settings
        Settings of the dataset.
    code_version
        Code version of the asset.
    degradation
        Hash of the degradation table, or None if no table is used.
    """
    return _fingerprint(
        [_facts(row, leave_out=_NOT_INPUTS) for row in ledger],
        code_version,
        degradation,
        settings.resolution,
        settings.hmi_scale,
        settings.max_missing_fraction,
        *([] if settings.hmi_values == "level" else [settings.hmi_values]),
    )


def shard_inputs(
    rows: Iterable[FrameRow],
    settings: Settings,
    constants: Normalization,
    *,
    code_version: str,
) -> str:
    """Return the fingerprint of a shard.

    Parameters
    ----------
    rows
        Rows of the frames in the shard.
    settings
        Settings of the dataset.
    constants
        Normalization constants with which the frames are packed.
    code_version
        Code version of the asset.
    """
    return _fingerprint(
        [_facts(row) for row in rows],
        code_version,
        constants.version,
        settings.dtype,
        settings.member_case,
        settings.resolution,
        *([] if settings.encoding == "npy" else [settings.encoding]),
    )


def usable_rows(stored: StoredDay, settings: Settings) -> list[FrameRow]:
    """Return the rows of the frames for a day's shard, in the shard's order.

    Raises
    ------
    MissingInputError
        If the day was not processed with these settings.
    """
    rows = [
        row
        for instrument in INSTRUMENTS
        if settings.channels_of(instrument)
        for row in stored.expected_frame_table(instrument, settings)
        if row.status == "ok"
    ]
    found = {row.values or "level" for row in rows if row.channel == "HMI_M"}
    if found - {settings.hmi_values}:
        raise MissingInputError(
            f"processed_hmi of {stored.day} was not made with SDOML_HMI_VALUES="
            f"{settings.hmi_values}: run ingest for the day again"
        )
    return sorted(rows, key=lambda row: (row.slot, row.channel))


def intact_frames(
    stored: StoredDay, instrument: Instrument, settings: Settings, inputs: str
) -> tuple[list[FrameRow], dict[str, Sketch]] | None:
    """Return the rows and sketches of a processed day if it is undamaged and has these inputs."""
    try:
        if stored.processed_inputs(instrument) != inputs:
            return None
        rows = stored.expected_frame_table(instrument, settings)
        sketches = stored.sketches(instrument)
        table = layout.frame_table(stored.day, instrument)
        for channel in settings.channels_of(instrument):
            mine = [row for row in rows if row.channel == channel.name and row.status == "ok"]
            size = frame_file_size(len(mine), settings.resolution)
            path = layout.processed_frames(stored.day, channel)
            if not stored.store.unchanged_since(path, table, size=size):
                for row in mine:
                    stored.frame(row, resolution=settings.resolution)
    except (DamagedFileError, MissingInputError, FileNotFoundError):
        return None
    return rows, sketches


def is_finished(
    stored: StoredDay,
    settings: Settings,
    constants: Normalization | None,
    *,
    code_versions: Mapping[str, str],
    degradation: str,
) -> bool:
    """Return whether a day's shard is up to date with its inputs, settings and code.

    This function reads the tables and the index, but no pixels. `verify_store` finds damaged
    pixels. Recent days with missing or provisional frames are never finished, because the archive
    may still publish better frames.

    Parameters
    ----------
    stored
        The day.
    settings
        Settings of the dataset.
    constants
        Current constants. If None (not fitted yet), only the processed frames are checked.
    code_versions
        Code versions of the daily assets, by asset name.
    degradation
        Hash of the degradation table.
    """
    try:
        for instrument in INSTRUMENTS:
            if not settings.channels_of(instrument):
                continue
            ledger = stored.expected_ledger(instrument, settings)
            if _may_change(ledger, stored, settings):
                return False
            inputs = processed_inputs(
                ledger,
                settings,
                code_version=code_versions[asset_names.processed(instrument)],
                degradation=degradation if instrument == "AIA" else None,
            )
            if stored.processed_inputs(instrument) != inputs:
                return False
        if constants is None:
            return True
        index = stored.shard_index()
        inputs = shard_inputs(
            usable_rows(stored, settings),
            settings,
            constants,
            code_version=code_versions["shards"],
        )
    except (DamagedFileError, MissingInputError):
        return False
    return index is not None and index.inputs == inputs and stored.shard_size() == index.shard_bytes


def _may_change(ledger: Sequence[RawRow], stored: StoredDay, settings: Settings) -> bool:
    statuses = {row.status for row in ledger}
    provisional = any(is_provisional(row.flags) for row in ledger if row.status == "ok")
    window = timedelta(days=settings.publication_lag_days + settings.lookback_days)
    recent = stored.day > (datetime.now(UTC) - window).date()
    return "outage" in statuses or (("missing" in statuses or provisional) and recent)


def _facts(row: RawRow | FrameRow, *, leave_out: Collection[str] = ()) -> dict[str, object]:
    """Return the values of a row without nulls.

    A new optional column therefore does not change any fingerprint.
    """
    return {
        name: value
        for name in row.__dataclass_fields__
        if (value := getattr(row, name)) is not None and name not in leave_out
    }


def _fingerprint(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
