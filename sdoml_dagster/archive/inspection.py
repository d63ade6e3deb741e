"""Check that a raw file contains a usable frame that matches the file name."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import Channel
from sdoml_core.ephemeris import hmi_observed, solar_radius
from sdoml_core.errors import DoubtfulFrameError, FrameError, WrongFrameError
from sdoml_core.frames.aia import decode_aia
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.frames.judge_hmi import inspect_hmi

FARTHEST_FROM_NAME = timedelta(seconds=90)
"""Maximum difference between the observation time of an AIA frame and the minute in its file name.
Consecutive frames are two minutes apart."""


@dataclass(frozen=True, slots=True)
class RawFacts:
    """Metadata and flags of a raw frame."""

    observed: datetime
    rsun_obs: float
    exposure: float | None = None
    quality: int | None = None
    flags: tuple[str, ...] = ()
    """Names from `sdoml_core.frames.flags.FLAGS`."""
    data_crc32: int | None = None
    """CRC-32 of the pixels as stored in the file."""
    flaw: FrameError | None = None
    """Reason why an intact frame is rejected. Fetching the file again would not help."""


def inspect_frame(
    data: bytes, channel: Channel, minute: datetime, *, max_missing_fraction: float
) -> RawFacts:
    """Decode a raw file and check that it contains the frame that its name indicates.

    Raises
    ------
    FrameError
        If the file is damaged or contains a different frame.
    DoubtfulFrameError
        If an HMI file has signs of damage that a good file may also have.
    """
    if channel.instrument == "HMI":
        return _inspect_hmi(data, minute)
    frame = decode_aia(data)
    if frame.wavelength != channel.wavelength:
        raise WrongFrameError(
            f"contains a frame of {frame.wavelength} Å, not {channel.wavelength} Å"
        )
    if abs(frame.observed - minute) > FARTHEST_FROM_NAME:
        raise WrongFrameError(f"was taken at {frame.observed:%Y-%m-%d %H:%M:%S}")
    judgment = judge_aia(frame, max_missing_fraction=max_missing_fraction)
    return RawFacts(
        frame.observed,
        frame.rsun_obs,
        frame.exposure,
        frame.quality,
        flags=judgment.flags,
        data_crc32=frame.data_crc32,
        flaw=judgment.flaw,
    )


def _inspect_hmi(data: bytes, minute: datetime) -> RawFacts:
    observed = hmi_observed(minute)
    rsun_obs = float(solar_radius(observed))
    picture = inspect_hmi(data, rsun_obs=rsun_obs)
    # A JPEG file has no header, so the whole file is hashed.
    facts = RawFacts(observed, rsun_obs, flags=picture.flags, data_crc32=crc32(data))
    if picture.doubt is not None:
        raise DoubtfulFrameError(picture.doubt, facts)
    return facts
