"""Coverage tables and the ``repr`` of a dataset."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sdoml_core.loader.reading.reader import FrameReader
from sdoml_core.loader.selection import Selection
from sdoml_core.loader.storage.catalog import Catalog
from sdoml_core.loader.times import inside, iso


@dataclass(frozen=True)
class Coverage:
    """Number of frames by month and channel. ``print`` displays a table."""

    months: tuple[str, ...]
    """Months, such as ``2024-03``."""
    slots: tuple[int, ...]
    """Number of slots in each month within the range, at the cadence of the data."""
    complete: tuple[int, ...]
    """Number of samples in each month that have every requested channel."""
    frames: dict[str, tuple[int, ...]]
    """For each channel, the number of frames in each month."""

    def to_arrow(self) -> pa.Table:
        """Return a pyarrow table."""
        columns = {"month": self.months, "slots": self.slots, "samples": self.complete}
        return pa.table({name: list(values) for name, values in (columns | self.frames).items()})

    def __str__(self) -> str:
        table = self.to_arrow().to_pydict()
        table = {
            name: [*values, sum(values) if name != "month" else "total"]
            for name, values in table.items()
        }
        widths = {
            name: max(len(name), *(len(str(v)) for v in values)) for name, values in table.items()
        }
        rows = [list(table), *zip(*table.values(), strict=True)]
        return "\n".join(
            "  ".join(
                str(value).rjust(width) for value, width in zip(row, widths.values(), strict=True)
            )
            for row in rows
        )

    __repr__ = __str__


def cadence_of(slots: NDArray[np.datetime64]) -> np.timedelta64:
    """Return the most common step between samples, or 15 minutes for a single sample."""
    if len(slots) < 2:
        return np.timedelta64(900, "s")
    steps, counts = np.unique(np.diff(slots), return_counts=True)
    return np.timedelta64(steps[np.argmax(counts)], "s")


def count_coverage(
    catalog: Catalog,
    ranges: list[tuple[np.datetime64, np.datetime64]],
    rows: NDArray[np.int64],
) -> Coverage:
    """Count the frames of all channels in the given ranges, by month."""
    step = cadence_of(catalog.slots)
    within = inside(catalog.slots, ranges)
    # Also count samples that are not on the grid, because the cadence may have changed within the
    # range.
    grid = [np.arange(start, end, step) for start, end in ranges]
    expected = np.unique(np.concatenate([*grid, catalog.slots[within]]))
    months = np.union1d(
        expected.astype("datetime64[M]"), catalog.slots[within].astype("datetime64[M]")
    )

    def count(times: NDArray[np.datetime64]) -> tuple[int, ...]:
        found, counts = np.unique(times.astype("datetime64[M]"), return_counts=True)
        where = dict(zip(found.tolist(), counts.tolist(), strict=True))
        return tuple(where.get(month, 0) for month in months.tolist())

    frames = {
        name: count(catalog.slots[within & (catalog.offsets([name])[:, 0] >= 0)])
        for name in catalog.channels
    }
    return Coverage(
        tuple(str(month) for month in months),
        count(expected),
        count(catalog.slots[rows]),
        frames,
    )


def describe(source: str, reader: FrameReader, selection: Selection) -> str:
    """Return the ``repr`` of a dataset, a summary of its contents in a few lines."""
    catalog, times, exclusions = reader.catalog, selection.times, selection.exclusions
    minutes = cadence_of(catalog.slots).astype("timedelta64[m]").astype(int)
    slots = sum(count_coverage(catalog, selection.ranges, selection.rows).slots)
    shards = len(reader.shards_of(selection.rows))
    return "\n".join(
        (
            f"SDOMLlite({source})",
            f"  samples   {len(times):,} of {slots:,} slots every {minutes} min, "
            f"in {shards:,} shard{'s' * (shards != 1)}",
            f"  time      {iso(times[0])} to {iso(times[-1])}"
            + (f", {len(exclusions)} exclusion{'s' * (len(exclusions) > 1)}" if exclusions else ""),
            f"  channels  {', '.join(reader.channels)}",
            f"  pixels    {catalog.resolution} × {catalog.resolution}, "
            f"{catalog.encoding or catalog.dtype} in shards, "
            f"{_units(reader)}",
            f"  constants version {catalog.normalization_version or 'unknown'}",
        )
    )


def _units(reader: FrameReader) -> str:
    """Return the unit that all channels share, or else a list of the units by channel."""
    if len(set(reader.units)) == 1:
        return reader.units[0]
    pairs = zip(reader.channels, reader.units, strict=True)
    return ", ".join(f"{name} {unit}" for name, unit in pairs)
