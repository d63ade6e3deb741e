"""Coverage per day and channel, with the reasons for gaps if the release records them."""

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sdoml_core.errors import SdomlError
from sdoml_core.formats.parquet import arrow_file
from sdoml_view.release import Release

COVERAGE_TABLE: Final = "coverage.parquet"

REASONS: Final = {
    "incomplete": "left out because the sample lacks another channel",
    "missing": "not in the archive",
    "quality": "rejected for QUALITY",
    "invalid": "damaged in the archive",
    "blank": "blank",
    "outage": "without a response from the archive",
    "unexplained": "without a recorded reason",
    "not_built": "not built",
}
"""Meaning of each column of the coverage table that counts missing frames, shown after a count."""


@dataclass(frozen=True)
class Calendar:
    """Counts of frames by day and channel."""

    first: date
    channels: tuple[str, ...]
    found: NDArray[np.int32]
    """Number of frames in the dataset; shape (channels, days)."""
    expected: NDArray[np.int32]
    """Number of expected frames, 0 for days outside the range; shape (channels, days)."""
    reasons: dict[int, dict[str, dict[str, int]]] = field(default_factory=dict)
    """Number of missing frames by day (counted from `first`), channel and reason."""

    def to_json(self) -> dict[str, Any]:
        """Return the table for the browser."""
        return {
            "first": self.first.isoformat(),
            "days": int(self.found.shape[1]),
            "channels": list(self.channels),
            "found": self.found.tolist(),
            "expected": self.expected.tolist(),
            "reasons": self.reasons,
            "meanings": REASONS,
        }


def read_calendar(release: Release) -> Calendar:
    """Count the frames of each day and channel.

    The coverage table of a release also counts missing frames by reason. Without a coverage table,
    one frame per cadence step is expected.
    """
    counted = _count(release)
    try:
        if not release.files.has(COVERAGE_TABLE):
            return counted
        table = pq.read_table(arrow_file(release.files.read(COVERAGE_TABLE)))
        return _with_reasons(release, table)
    except (
        SdomlError, OSError, pa.ArrowException, KeyError, OverflowError, ValueError, TypeError,
    ):  # fmt: skip
        return counted  # if the table is damaged, count the frames in the index instead


def _count(release: Release) -> Calendar:
    slots = release.catalog.slots
    days = slots.astype("datetime64[D]")
    first = days[0]
    number = (days - first).astype(np.int64)
    length = int(number[-1]) + 1
    offsets = release.reader.offsets
    found = np.stack(
        [
            np.bincount(number[offsets[:, column] >= 0], minlength=length)
            for column in range(len(release.channels))
        ]
    ).astype(np.int32)
    per_day = max(86400 // max(release.cadence, 1), 1)
    start = first.astype("datetime64[s]") + np.arange(length) * np.timedelta64(86400, "s")
    # The range may start or end within a day.
    low = np.maximum(start, slots[0])
    high = np.minimum(start + np.timedelta64(86400, "s"), slots[-1] + 1)
    spans = np.ceil((high - low).astype(np.int64) / max(release.cadence, 1))
    expected = np.minimum(spans, per_day).astype(np.int32)
    everywhere = np.maximum(np.broadcast_to(expected, found.shape), found).astype(np.int32)
    return Calendar(first.item(), release.channels, found, everywhere)


def _with_reasons(release: Release, table: pa.Table) -> Calendar:
    if not pa.types.is_date(table.schema.field("day").type):
        raise ValueError("the days of the coverage table are not dates")
    days = table.column("day").to_pylist()
    first, last = min(days), max(days)
    length = (last - first) // timedelta(days=1) + 1
    if not 0 < length <= 366 * 100:
        raise ValueError(f"the coverage table spans {length} days")
    number = {name: i for i, name in enumerate(release.channels)}
    found = np.zeros((len(number), length), np.int32)
    expected = np.zeros_like(found)
    names = [name for name in REASONS if name in table.column_names]
    columns = [table.column(name).to_pylist() for name in ("channel", "expected", "ok", *names)]
    reasons: dict[int, dict[str, dict[str, int]]] = {}
    for day, channel, wanted, good, *counts in zip(days, *columns, strict=True):
        if channel not in number:
            continue
        at = (day - first) // timedelta(days=1)
        expected[number[channel], at] = wanted
        found[number[channel], at] = good
        gaps = {name: count for name, count in zip(names, counts, strict=True) if count}
        if gaps:
            reasons.setdefault(at, {})[channel] = gaps
    return Calendar(first, release.channels, found, expected, reasons)
