"""Description of a release as plain data, for the card, the asset and the CLI."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sdoml_core.formats.encoding import CompactEncoding
from sdoml_core.normalization.constants import Normalization
from sdoml_dagster.release.coverage import ReleaseCoverage
from sdoml_dagster.release.splits import Period
from sdoml_dagster.settings.model import Settings


@dataclass(frozen=True, slots=True)
class SplitDescription:
    """One split of a release."""

    name: str
    ranges: tuple[Period, ...]
    """Days that the split keeps after the guard gaps are removed."""

    shards: tuple[str, ...]
    """File names of the split's shards, in order."""

    samples: int


@dataclass(frozen=True, slots=True)
class ReleaseDescription:
    """Properties of a finished release.

    It has no date, so that equal releases have equal descriptions.
    """

    name: str
    """Name of the release and of its folder."""

    settings: Settings
    """Settings with which the release was built."""

    normalization: Normalization
    """Constants with which all shards were normalized."""

    coverage: ReleaseCoverage

    hosts: frozenset[str]
    """Hosts that the frames came from, according to the ledgers of the first, middle and last
    day."""

    channels: tuple[str, ...]
    """Channels in the release, in canonical order."""

    dtype: str
    """Type of the stored pixels."""

    encoding: CompactEncoding | None
    """Encoding of the shards. None for npy."""

    steps: Mapping[str, float]
    """Quantization step of each channel. Empty for npy."""

    resolution: int
    """Pixels along each side of a frame."""

    member: str
    """Name of one shard member, as an example."""

    shards: tuple[str, ...]
    """File names of the shards, in order."""

    bytes: int
    """Total size of all shards."""

    first: datetime
    """Slot of the first sample."""

    last: datetime
    """Slot of the last sample."""

    samples: int

    complete: int
    """Number of samples that have all `channels`."""

    uniform_start: bool
    """Whether the first five samples have the same channels, as Hugging Face's builder requires."""

    complete_only: bool
    """Whether samples that lack a channel were left out."""

    days_per_shard: int

    splits: tuple[SplitDescription, ...] = ()
    """Splits in the order of the request. Empty for a release without splits."""

    guard_days: int = 0
    """Length of the gap between two splits, in days."""

    fitted_to: str | None = None
    """Name of the split that the constants were fitted to. None if other days were used too."""

    @property
    def all_complete(self) -> bool:
        """Whether every sample has every channel."""
        return self.complete == self.samples
