"""Normalisation: one constant per channel, fitted once to a whole dataset and then frozen.

The constants come from merged sketches (``sdoml_core.sketch``), never from pixels, so a fit over
the whole mission takes seconds. What was fitted, to what and with which result is one small JSON
document whose version is the hash of its content: shards name the version that they used.

The transforms are invertible. AIA: y = sqrt(min(x, c) / c), as in SDOML-lite. HMI is in [0, 1]
from the start: y = min(x, c) / c with c = 1.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError, NormalizationError
from sdoml_core.method import Method, parse_method

if TYPE_CHECKING:
    from sdoml_core.sketch import Sketch  # brings numba, which readers of constants do not need

Transform = Literal["sqrt", "linear"]

LISTED_QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 0.9999)
"""Quantiles that the statistics of each channel list, for people to judge the constant by."""

HMI_CONSTANT = 1.0
"""HMI frames are grey levels in [0, 1]: there is nothing to fit."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """One channel's constant, and what its pixels are like; units are those of processed frames."""

    transform: Transform

    constant: float | None
    """The value that becomes 1; None where no frame was found to fit it to."""

    pixels: int

    minimum: float | None = None

    maximum: float | None = None

    mean: float | None = None

    std: float | None = None

    quantiles: Mapping[str, float] | None = None
    """Values of `LISTED_QUANTILES`, by the quantile as text."""

    saturated: float | None = None
    """Fraction of the pixels above the constant: they all become 1."""


@dataclass(frozen=True, slots=True)
class Normalization:
    """The frozen constants of a dataset. Equal content has an equal version."""

    method: str
    """``quantile:0.9999`` or ``max``."""

    resolution: int
    """Of the frames that it was fitted to: sums over pixels grow with their area."""

    first_day: date

    last_day: date

    days: int
    """Days with data between the first and the last, both included."""

    channels: Mapping[str, ChannelStatistics]
    """By channel name, in the order of ``CHANNELS``."""

    @property
    def version(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the content."""
        return _version(self._content())

    def constant(self, channel: str) -> float:
        """The value of a channel that becomes 1.

        Raises
        ------
        NormalizationError
            Where the normalisation was fitted without this channel or found no frame of it.
        """
        statistics = self.channels.get(channel)
        if statistics is None or statistics.constant is None:
            why = "was not fitted" if statistics is None else "had no pixels above zero"
            raise NormalizationError(
                f"{channel} {why} when normalisation {self.version} was fitted to "
                f"{self.first_day} … {self.last_day}; refit it to days that have this channel"
            )
        return statistics.constant

    def to_json(self) -> bytes:
        """Canonical JSON: sorted keys, UTF-8, exact floats, a newline at the end."""
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


def transform_of(channel: str) -> Transform:
    """``sqrt`` for AIA, ``linear`` for HMI."""
    return "sqrt" if CHANNELS[channel].instrument == "AIA" else "linear"


def fit(
    sketches: Mapping[str, "Sketch"],
    *,
    method: Method | str,
    resolution: int,
    first_day: date,
    last_day: date,
    days: int,
) -> Normalization:
    """Constants and statistics of merged sketches.

    Parameters
    ----------
    sketches
        Each channel's sketch over all days; one without pixels gives a channel without constant.
    method
        A `Method`, or the text of one.
    resolution
        Of the frames, in pixels along an edge.
    first_day, last_day, days
        Which days the sketches hold, both ends included, and how many.

    Raises
    ------
    NormalizationError
        Where the quantile of a channel is zero: most of its pixels are dark.
    SettingError
        For a text that names no method.
    """
    chosen = parse_method(method) if isinstance(method, str) else method
    return Normalization(
        method=str(chosen),
        resolution=resolution,
        first_day=first_day,
        last_day=last_day,
        days=days,
        channels={
            name: _statistics(name, sketches[name], chosen) for name in CHANNELS if name in sketches
        },
    )


def from_json(data: bytes) -> Normalization:
    """Normalisation that `Normalization.to_json` wrote.

    Raises
    ------
    DamagedFileError
        Where the document is another one, or its content does not have the version it states.
    """
    try:
        content = json.loads(data)
        stated = content.pop("version")
        normalization = _normalization(content)
        intact = content["format"] == _FORMAT and stated == normalization.version
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"not a normalisation document: {error!r}") from error
    if not intact:
        raise DamagedFileError(f"the content of normalisation {stated} is not what was written")
    return normalization


Pixels = TypeVar("Pixels", NDArray[np.float32], NDArray[np.float16])


def normalize(
    frame: NDArray[np.float32], constant: float, out: Pixels, *, transform: Transform = "sqrt"
) -> Pixels:
    """Write normalised pixels, in [0, 1], and return them; holds no lock while it computes.

    Division and square root of float32 are correctly rounded, so the result is the same on every
    machine; it never exceeds 1. NaN stays NaN.

    Parameters
    ----------
    frame
        float32, any shape, in the unit of ``constant``. Negative pixels become 0.
    constant
        The value that becomes 1, as `Normalization.constant` gives it.
    out
        float32 or float16, of the frame's shape. May be the frame itself.
    transform
        ``sqrt``: sqrt(min(x, c) / c). ``linear``: min(x, c) / c.
    """
    scale = np.float32(constant)
    scratch = out if out.dtype == np.float32 else np.empty(frame.shape, np.float32)
    np.clip(frame, np.float32(0), scale, out=scratch)
    np.divide(scratch, scale, out=scratch)
    if transform == "sqrt":
        np.sqrt(scratch, out=scratch)
    if scratch is not out:
        out[...] = scratch
    return out


def denormalize(
    normalized: NDArray[np.floating[Any]],
    constant: float,
    out: NDArray[np.float32],
    *,
    transform: Transform = "sqrt",
) -> NDArray[np.float32]:
    """Write the inverse of `normalize`, in the unit of ``constant``, and return it.

    What was saturated comes back as the constant.

    Parameters
    ----------
    normalized
        float32 or float16, any shape.
    constant, transform
        As given to `normalize`.
    out
        float32, of the same shape. May be the normalised pixels themselves.
    """
    values = normalized
    if transform == "sqrt":
        values = np.square(normalized, out=out, dtype=np.float32)
    np.multiply(values, np.float32(constant), out=out, dtype=np.float32)
    return out


def _statistics(name: str, sketch: "Sketch", method: Method) -> ChannelStatistics:
    """What a channel's sketch says, with the constant that the method chooses."""
    transform = transform_of(name)
    if not sketch.pixels:
        constant = HMI_CONSTANT if transform == "linear" else None
        return ChannelStatistics(transform=transform, constant=constant, pixels=0)
    constant = HMI_CONSTANT if transform == "linear" else sketch.quantile(method.q)
    if constant == 0 and sketch.maximum > 0:
        raise NormalizationError(
            f"{name}: the quantile {method.q!r} of its pixels is 0; choose a higher one"
        )
    return ChannelStatistics(
        transform=transform,
        constant=constant or None,
        pixels=sketch.pixels,
        minimum=sketch.minimum,
        maximum=sketch.maximum,
        mean=sketch.mean,
        std=sketch.std,
        quantiles={str(q): sketch.quantile(q) for q in LISTED_QUANTILES},
        saturated=sketch.fraction_above(constant),
    )


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
