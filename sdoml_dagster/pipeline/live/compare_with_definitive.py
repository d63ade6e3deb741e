"""Compare a day's provisional frames with its definitive frames, once both exist.

The comparison uses 32×32 block means of the processed frames, in physical units. It shows how the
frames that a model is trained on differ from those that it uses for forecasts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.errors import DamagedFileError, MissingInputError
from sdoml_core.formats.ledger import FrameRow
from sdoml_core.formats.live_table import LIVE_TABLE, LiveRow, read_thumbnail, thumbnail
from sdoml_core.slots import midnight
from sdoml_dagster.pipeline.live.hours import HOUR
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store

KEPT_DAYS = 400
"""Number of days that the report keeps."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Differences (provisional minus definitive) of one channel on one day."""

    day: str
    channel: str
    pairs: int
    """Number of slots that have both frames."""
    same_time: int
    """Number of pairs in which both frames come from the same exposure."""
    bias: float
    """Median over pairs of the difference in frame means, relative to the definitive mean."""
    scatter: float
    """Standard deviation over pairs of the relative difference in frame means."""
    blocks: float
    """Median over pairs of the RMS difference between blocks, relative to the definitive mean."""
    seconds: float
    """Median time from the definitive to the provisional exposure."""


def compare_with_definitive(day: date, *, settings: Settings, store: Store) -> list[Difference]:
    """Compare a day, and add the result to the report.

    Returns an empty list if no slot has both frames.

    Parameters
    ----------
    day
        A day with a definitive shard.
    settings, store
        The dataset's settings and store.
    """
    live = _provisional_rows(store, day)
    pairs: dict[str, list[tuple[LiveRow, FrameRow, bytes]]] = {}
    stored = StoredDay(store, day)
    for instrument in INSTRUMENTS if live else ():
        try:
            for row in stored.frame_table(instrument) or ():
                other = live.get((row.slot, row.channel))
                if row.status != "ok" or other is None or other.thumbnail is None:
                    continue
                pixels = stored.frame(row, resolution=settings.resolution)
                pairs.setdefault(row.channel, []).append((other, row, thumbnail(pixels)))
        except (DamagedFileError, MissingInputError, FileNotFoundError):
            continue  # `sdoml verify` reports the damage
    found = [_difference(day, channel, its) for channel, its in sorted(pairs.items())]
    if found:
        _add_to_report(store, day, found)
    return found


def read_report(store: Store) -> list[Difference]:
    """Read the report: one entry per day and channel, or an empty list if there is no report."""
    data = store.read_if_exists(layout.LIVE_REPORT)
    try:
        entries: Sequence[Mapping[str, Any]] = json.loads(data) if data else []
        return [Difference(**entry) for entry in entries]
    except (ValueError, TypeError):
        return []


def _add_to_report(store: Store, day: date, found: Sequence[Difference]) -> None:
    kept = [entry for entry in read_report(store) if entry.day != day.isoformat()]
    entries = sorted([*kept, *found], key=lambda entry: (entry.day, entry.channel))
    days = sorted({entry.day for entry in entries})[-KEPT_DAYS:]
    text = json.dumps([asdict(entry) for entry in entries if entry.day in days], indent=1)
    store.write(layout.LIVE_REPORT, f"{text}\n".encode())


def _provisional_rows(store: Store, day: date) -> dict[tuple[datetime, str], LiveRow]:
    rows: dict[tuple[datetime, str], LiveRow] = {}
    for number in range(24):
        data = store.read_if_exists(layout.live_table(midnight(day) + number * HOUR))
        try:
            found = LIVE_TABLE.decode(data) if data is not None else []
        except DamagedFileError:
            continue
        rows |= {(row.slot, row.channel): row for row in found}
    return rows


def _difference(
    day: date, channel: str, pairs: Sequence[tuple[LiveRow, FrameRow, bytes]]
) -> Difference:
    relative, rms, seconds = [], [], []
    for live, definitive, blocks in pairs:
        ours = read_thumbnail(live.thumbnail or b"").astype(np.float64)
        truth = read_thumbnail(blocks).astype(np.float64)
        mean = truth.mean()
        relative.append((ours.mean() - mean) / mean)
        rms.append(np.sqrt(((ours - truth) ** 2).mean()) / mean)
        if live.observed and definitive.observed:
            seconds.append((live.observed - definitive.observed).total_seconds())
    return Difference(
        day.isoformat(),
        channel,
        len(pairs),
        sum(second == 0 for second in seconds),
        float(np.median(relative)),
        float(np.std(relative)),
        float(np.median(rms)),
        float(np.median(seconds)) if seconds else 0.0,
    )
