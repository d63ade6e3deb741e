"""The real AIA frames in the simulated archive's data."""

from pathlib import Path

from sdoml_core.frames.aia import AiaFrame, decode_aia

_DATA = Path(__file__).parents[2] / "sdoml_demo/data"

REAL_2014 = {
    f"{wavelength} Å, 2014": _DATA / f"real_2014/AIA20140101_0000_{wavelength:04d}.fits"
    for wavelength in (94, 131, 171, 193, 211, 335)
}
"""Six channels at one time near solar maximum."""

REAL_FRAMES = {"193 Å, 2018": _DATA / "AIA20180820_1248_0193.fits", **REAL_2014}
"""The frames of these channels, and a frame from a quiet day."""


def real_frame(name: str) -> AiaFrame:
    """Decode one of `REAL_FRAMES`."""
    return decode_aia(REAL_FRAMES[name].read_bytes())
