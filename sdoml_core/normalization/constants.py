"""Normalization constants: one per channel, fitted once to a whole dataset.

A small JSON document records the method, the days and the result of the fit. Its version is the
hash of its content. Each shard records the version of the constants that normalized it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.normalization.transform import Transform

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Constant and statistics of one channel, in the unit of its processed frames."""

    transform: Transform

    constant: float | None
    """Value that is mapped to 1. For ``field``, this is the field in gauss that is stored as 1.
    None if there are no frames."""

    pixels: int

    minimum: float | None = None

    maximum: float | None = None

    mean: float | None = None

    std: float | None = None

    quantiles: Mapping[str, float] | None = None
    """Values of the quantiles in `LISTED_QUANTILES`. The keys are the quantiles as text."""

    saturated: float | None = None
    """Fraction of the pixels above the constant, which are all mapped to 1."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """The constants of a dataset. The version depends only on the content."""

    method: str
    """``quantile:0.9999`` or ``max``."""

    resolution: int
    """Resolution of the fitted frames. Pixel values are sums, so they grow with the pixel
    area."""

    first_day: date

    last_day: date

    days: int
    """Number of days with data, from the first day to the last day."""

    channels: Mapping[str, ChannelStatistics]
    """Statistics by channel name, in the order of ``CHANNELS``."""

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the content."""
        return _version(self._content())

    def constant(self, channel: str) -> float:
        """Return the constant of a channel: the pixel value that is mapped to 1.

        Raises
        ------
        NormalizationError
            If the normalization was fitted without this channel, or to days without usable frames
            of this channel.
        """
        statistics = self.channels.get(channel)
        if statistics is None or statistics.constant is None:
            why = "was not included" if statistics is None else "had no pixels above zero"
            raise NormalizationError(
                f"{channel} {why} when normalization {self.version} was fitted to "
                f"{self.first_day} … {self.last_day}; refit to days that have this channel"
            )
        return statistics.constant

    def transform(self, channel: str) -> Transform:
        """Return the transform of a channel. Raises the same errors as `constant`."""
        self.constant(channel)
        return self.channels[channel].transform

    def to_json(self) -> bytes:
        """Encode as canonical JSON: sorted keys, UTF-8, exact floats, and a trailing newline."""
        content = self._content()
        return _canonical({**content, "version": _version(content)})

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "method": self.method,
            "resolution": self.resolution,
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "days": self.days,
            "channels": {name: asdict(channel) for name, channel in self.channels.items()},
        }


def from_json(data: bytes) -> Normalization:
    """Decode the output of `Normalization.to_json`.

    Raises
    ------
    DamagedFileError
        If the document is invalid, or its content does not match its version.
    """
    try:
        content = json.loads(data)
        stated = content.pop("version")
        normalization = _normalization(content)
        intact = content["format"] == _FORMAT and stated == normalization.version
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"not a normalization document: {error!r}") from error
    if not intact:
        raise DamagedFileError(f"the content of normalization {stated} does not match its version")
    return normalization


def _normalization(content: Mapping[str, Any]) -> Normalization:
    channels = content["channels"]
    return Normalization(
        method=content["method"],
        resolution=content["resolution"],
        first_day=date.fromisoformat(content["first_day"]),
        last_day=date.fromisoformat(content["last_day"]),
        days=content["days"],
        channels={
            name: ChannelStatistics(**channels[name]) for name in CHANNELS if name in channels
        },
    )


def _canonical(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
    return f"{text}\n".encode()


def _version(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical(content)).hexdigest()[:16]
