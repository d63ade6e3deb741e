"""Write the index of a release, and collect the list of samples at the same time."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdoml_core.formats.index import Index
from sdoml_core.formats.parquet import timestamps
from sdoml_core.formats.release_index import ShardFacts, write_release_index
from sdoml_dagster.progress import Progress
from sdoml_dagster.release.shards import ShardMaker


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Slots of all samples, and the number of channels of each sample, by shard."""

    shards: Mapping[str, tuple[NDArray[np.datetime64], NDArray[np.int64]]]

    @property
    def number(self) -> int:
        """Number of samples."""
        return sum(len(slots) for slots, _ in self.shards.values())

    @property
    def first(self) -> datetime:
        """Slot of the first sample."""
        return utc(min(slots[0] for slots, _ in self.shards.values()))

    @property
    def last(self) -> datetime:
        """Slot of the last sample."""
        return utc(max(slots[-1] for slots, _ in self.shards.values()))

    def number_with(self, channels: int) -> int:
        """Return the number of samples that have a given number of channels."""
        return sum(int((counts == channels).sum()) for _, counts in self.shards.values())

    def example(self) -> tuple[str, np.datetime64]:
        """Return the shard and slot of the middle one of the samples with the most channels."""
        most = max(int(counts.max()) for _, counts in self.shards.values())
        candidates = sorted(
            (slot, name)
            for name, (slots, counts) in self.shards.items()
            for slot in slots[counts == most]
        )
        slot, name = candidates[len(candidates) // 2]
        return name, slot


def utc(slot: np.datetime64) -> datetime:
    """Convert a slot to a timezone-aware datetime."""
    moment: datetime = slot.astype("datetime64[s]").item()
    return moment.replace(tzinfo=UTC)


def write_index(
    path: Path,
    *,
    maker: ShardMaker,
    shards: Sequence[ShardFacts],
    inputs: str,
    report: Callable[[str], None],
) -> Samples:
    """Write the index of the release to a local file, and return the samples."""
    progress = Progress("release, writing the index", len(shards), report, unit="shards")
    samples = {}

    def read(name: str) -> Index:
        index = maker.index(name)
        samples[name] = np.unique(timestamps(index.table.column("slot")), return_counts=True)
        progress.step("ok")
        return index

    with path.open("wb") as file:
        write_release_index(file, shards, read, inputs=inputs)
    return Samples(samples)
