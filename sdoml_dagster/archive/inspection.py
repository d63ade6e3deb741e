"""Raw frames: whether a file is the frame that its name says, and good enough."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sdoml_core.channels import Channel
from sdoml_core.ephemeris import hmi_observed, solar_radius
from sdoml_core.errors import BadQualityError, BlankFrameError, FrameError, WrongFrameError
from sdoml_core.frames.aia import AiaFrame, decode_aia, quality_reason
from sdoml_core.frames.hmi import decode_hmi

FARTHEST_FROM_NAME = timedelta(seconds=90)
"""How far an AIA frame may lie from the minute of its name; the next frame is two minutes away."""


@dataclass(frozen=True, slots=True)
class RawFacts:
    """What a usable raw frame says of itself."""

    observed: datetime
    rsun_obs: float
    exposure: float | None = None
    quality: int | None = None
    flaw: FrameError | None = None
    """Why an intact frame is of no use all the same; asking again would not change it."""


def inspect_frame(
    data: bytes, channel: Channel, minute: datetime, *, max_missing_fraction: float
) -> RawFacts:
    """Decode a raw file and check that it is the frame that its name says.

    Raises
    ------
    FrameError
        Where the file is damaged or another one.
    """
    if channel.instrument == "HMI":
        decode_hmi(data)
        observed = hmi_observed(minute)
        return RawFacts(observed, rsun_obs=float(solar_radius(observed)))
    frame = decode_aia(data)
    if frame.wavelength != channel.wavelength:
        raise WrongFrameError(f"holds {frame.wavelength} Å, not {channel.wavelength} Å")
    if abs(frame.observed - minute) > FARTHEST_FROM_NAME:
        raise WrongFrameError(f"was taken at {frame.observed:%Y-%m-%d %H:%M:%S}")
    return RawFacts(
        frame.observed,
        frame.rsun_obs,
        frame.exposure,
        frame.quality,
        flaw=frame_flaw(frame, max_missing_fraction=max_missing_fraction),
    )


def frame_flaw(frame: AiaFrame, *, max_missing_fraction: float) -> FrameError | None:
    """Why an intact AIA frame must not go into the dataset; ``None`` for a good one."""
    reason = quality_reason(frame.quality)
    if reason is not None:
        return BadQualityError(reason)
    fraction = frame.missing / frame.image.size
    if fraction > max_missing_fraction:
        return BlankFrameError(
            f"{fraction:.1%} of the pixels hold no data, more than {max_missing_fraction:.1%}"
        )
    return None
