"""Judge whether an AIA frame is good, flagged or rejected.

Fetching and processing apply the same rules to the raw frame. Fetching therefore tries a stand-in
for every frame that processing would reject. Processing also flags problems that only a comparison
with neighboring frames can reveal; see `compare_with_neighbors`.

A frame is rejected only if it cannot be a good observation. `docs/calibration.md` derives each
limit.
"""

import math
from dataclasses import dataclass
from typing import Final

from sdoml_core.ephemeris import solar_radius
from sdoml_core.errors import BadQualityError, BlankFrameError, CorruptFrameError, FrameError
from sdoml_core.frames.aia import AiaFrame
from sdoml_core.frames.content import SHARP, Content, measure_content
from sdoml_core.frames.pointing import pointing_reason, radius_reason
from sdoml_core.frames.quality import QUICKLOOK, exposure_reason, is_short, quality_reason

LEAST_VISIBLE: Final = 0.25
"""Minimum visible fraction of the disk. A frame that shows less, for example during an eclipse, is
blank."""

WHOLE_DISK: Final = 0.98
"""Visible fraction of the disk below which a frame is flagged. It is 1.000 in all real frames."""

LIMB_VISIBLE: Final = 0.9
"""Minimum visible fraction of the disk for judging the limb. If less is visible, the edge of a
shadow could be mistaken for the limb."""

BRIGHTEST_SKY: Final = {"whole": 0.6, "part": 0.3}
"""Maximum ratio of sky to bright disk, for frames that show the whole disk or a part of it. Above
this ratio, the frame does not show the Sun. The ratio is 0.03 to 0.08 in real frames, and 0.6 to 1
in frames without the Sun. Particle storms brighten the sky, but a shadow does not."""

FLAG_SKY: Final = 0.15
"""Ratio of sky to bright disk above which a frame is flagged. It is about twice the
largest ratio in the real frames."""

MAX_SCATTER: Final = 0.03
"""Maximum scatter of the limb around the fitted circle, in solar radii: four times the scatter of
the most active limb in the real frames."""

MAX_OFFSET: Final = 0.03
"""Maximum distance of the disk from its position in the header, in solar radii (12 of 1024
pixels)."""

FLAG_OFFSET: Final = 0.008
"""Distance above which a frame is flagged, in solar radii (2.4 of 1024 pixels): four times the
largest distance in the real frames."""

RADIUS_LIMITS: Final = {"sharp": (0.97, 1.03), "corona": (0.95, 1.12)}
"""Limits for the radius of the limb, in solar radii. Frames outside these limits are rejected."""

FLAG_RADIUS: Final = {"sharp": (0.99, 1.01), "corona": (1.0, 1.07)}
"""Limits for the radius of the limb, in solar radii. Frames outside these limits are flagged. In
real frames, the radius is 1.001 to 1.003 in 1700 Å and 1.025 to 1.038 in the corona."""

BRIGHTEST_DISK: Final = {
    94: 14.0,
    131: 70.0,
    171: 2_500.0,
    193: 3_000.0,
    211: 800.0,
    304: 3_000.0,
    335: 25.0,
    1600: 10_000.0,
    1700: 16_384.0,
}
"""Upper limit of the median of the disk by wavelength, in DN/s per pixel of 0.6″. For
wavelengths with a real frame at solar maximum, it is 20 times the value of that frame. For 304,
1600 and 1700 Å, it is the 14-bit limit of the camera at the usual exposure."""


@dataclass(frozen=True, slots=True, eq=False)
class Judgment:
    """Result of judging one frame."""

    flaw: FrameError | None
    """Reason why the frame is rejected; None if it is usable."""

    flags: tuple[str, ...] = ()
    """Names from `sdoml_core.frames.flags.FLAGS`."""

    content: Content | None = None
    """Measures of the frame. None if the frame was rejected because of its header."""


def judge_aia(frame: AiaFrame, *, max_missing_fraction: float) -> Judgment:
    """Judge a decoded frame by its header and by its pixels.

    Parameters
    ----------
    frame
        Result of `sdoml_core.frames.aia.decode_aia`.
    max_missing_fraction
        Maximum fraction of pixels without data.
    """
    flaw = _header_flaw(frame, max_missing_fraction)
    if flaw is not None:
        return Judgment(flaw)
    content = measure_content(
        frame.image,
        pointing=frame.pointing,
        rsun_obs=frame.rsun_obs,
        wavelength=frame.wavelength,
    )
    flaw = _content_flaw(frame, content)
    return Judgment(flaw, () if flaw else _flags(frame, content), content)


def _header_flaw(frame: AiaFrame, max_missing_fraction: float) -> FrameError | None:
    reason = quality_reason(frame.quality) or frame.not_science
    if reason is not None:
        return BadQualityError(reason)
    reason = exposure_reason(frame.exposure) or radius_reason(
        frame.rsun_obs, solar_radius(frame.observed)
    )
    if reason is not None:
        return CorruptFrameError(reason)
    reason = pointing_reason(frame.pointing)
    if reason is not None:
        return BadQualityError(f"not in science pointing: {reason}")
    fraction = frame.missing / frame.image.size
    if fraction > max_missing_fraction:
        return BlankFrameError(
            f"{fraction:.1%} of the pixels have no data, more than {max_missing_fraction:.1%}"
        )
    lost = 1 - frame.percent / 100
    if not lost <= max_missing_fraction:
        return BlankFrameError(
            f"PERCENTD is {frame.percent:g}: {lost:.1%} of the camera's pixels are lost, more than "
            f"{max_missing_fraction:.1%}"
        )
    return None


def _content_flaw(frame: AiaFrame, content: Content) -> FrameError | None:
    # A level above 0 implies that some pixel is above 0, so the pixels are checked only if it is 0.
    if not content.level > 0 and not bool((frame.image > 0).any()):
        return BlankFrameError("no pixel is above 0")
    whole = content.visible >= LIMB_VISIBLE
    if not content.sky <= BRIGHTEST_SKY["whole" if whole else "part"]:
        return BlankFrameError("no solar disk: the sky is about as bright as the disk")
    if content.visible < LEAST_VISIBLE:
        return BlankFrameError(
            f"{content.visible:.0%} of the disk is visible, less than {LEAST_VISIBLE:.0%}"
        )
    brightest = BRIGHTEST_DISK.get(frame.wavelength, math.inf)
    level = content.level / frame.exposure
    if level > brightest:
        return CorruptFrameError(
            f"the disk has {level:.4g} DN/s per pixel, more than is possible at {frame.wavelength} "
            f"Å ({brightest:g}): EXPTIME of {frame.exposure:g} s is wrong"
        )
    return _limb_flaw(frame, content) if whole else None


def _limb_flaw(frame: AiaFrame, content: Content) -> FrameError | None:
    if content.center is None or content.radius is None or content.scatter > MAX_SCATTER:
        return BlankFrameError("no solar disk: no circle fits the limb")
    if content.offset > MAX_OFFSET:
        return CorruptFrameError(
            f"the disk is {content.offset:.3f} solar radii from its position in the header, more "
            f"than {MAX_OFFSET:g}"
        )
    low, high = RADIUS_LIMITS[_kind(frame)]
    if not low <= content.radius <= high:
        return CorruptFrameError(
            f"the limb is at {content.radius:.3f} solar radii, not between {low:g} and {high:g}"
        )
    return None


def _kind(frame: AiaFrame) -> str:
    return "sharp" if frame.wavelength in SHARP else "corona"


def _flags(frame: AiaFrame, content: Content) -> tuple[str, ...]:
    low, high = FLAG_RADIUS[_kind(frame)]
    limb = content.visible >= LIMB_VISIBLE
    found = {
        "provisional": bool(frame.quality & QUICKLOOK),
        "pointing_corrected": not frame.pointing.registered,
        # a flare at the limb increases the scatter and shifts the circle
        "off_center": limb and content.offset > max(FLAG_OFFSET, content.scatter / 2),
        "odd_radius": limb and content.radius is not None and not low <= content.radius <= high,
        "partial_disk": content.visible < WHOLE_DISK,
        "short_exposure": is_short(frame.exposure, frame.wavelength),
        "missing_pixels": frame.missing > 0,
        "bright_sky": content.sky > FLAG_SKY,
    }
    return tuple(name for name, holds in found.items() if holds)
