"""Names of the assets, and other names of a dataset in a Dagster instance."""

from dataclasses import dataclass

from sdoml_core.channels import Instrument

NORMALIZATION = "normalization_stats"
SHARDS = "shards"
RELEASE = "release"
LIVE = ("live_frames", "live_shards")
"""The near-real-time assets."""

POOL = "jsoc"
DEFAULT_DATASET = "sdoml-lite"
"""Name of the dataset whose asset keys and pool have no prefix."""


def archive(instrument: Instrument) -> str:
    """Return ``jsoc_aia`` or ``jsoc_hmi``, the external asset for an archive tree."""
    return f"jsoc_{instrument.lower()}"


def raw(instrument: Instrument) -> str:
    """Return ``raw_aia`` or ``raw_hmi``."""
    return f"raw_{instrument.lower()}"


def processed(instrument: Instrument) -> str:
    """Return ``processed_aia`` or ``processed_hmi``."""
    return f"processed_{instrument.lower()}"


@dataclass(frozen=True, slots=True)
class DatasetNames:
    """Names that must be unique for each dataset in a Dagster instance.

    Parameters
    ----------
    dataset
        Name of the dataset, as set by ``SDOML_NAME``: letters, digits and hyphens.
    """

    dataset: str = DEFAULT_DATASET

    @property
    def prefix(self) -> str | None:
        """Prefix of the asset keys and the pool. ``None`` for the default dataset."""
        return None if self.dataset == DEFAULT_DATASET else self.dataset.replace("-", "_")

    def key(self, asset: str) -> list[str]:
        """Return the parts of an asset key."""
        return [asset] if self.prefix is None else [self.prefix, asset]

    def text(self, asset: str) -> str:
        """Format an asset key for messages and selections: ``raw_aia`` or ``hmi_only/raw_aia``."""
        return "/".join(self.key(asset))

    def prefixed(self, name: str) -> str:
        """Return the name of an op or a schedule, with the prefix of the dataset."""
        return name if self.prefix is None else f"{self.prefix}_{name}"

    @property
    def group(self) -> str:
        """Group of all assets of the dataset. The UI collapses groups if there are several."""
        return self.dataset.replace("-", "_")

    @property
    def pool(self) -> str:
        """Pool that limits the number of steps that fetch from the archive."""
        return POOL if self.prefix is None else f"{self.prefix}_{POOL}"
