"""The archive's directory tree: the name and path of each frame.

File names contain UTC for AIA and TAI for HMI.
"""

from datetime import datetime

from sdoml_core.channels import Channel


def file_name(channel: Channel, minute: datetime) -> str:
    """Return the file name: ``AIA20240102_0100_0094.fits``, ``20240102_010000_M_1k.jpg``."""
    if channel.instrument == "AIA":
        return f"AIA{minute:%Y%m%d_%H%M}_{channel.wavelength:04d}.fits"
    return f"{minute:%Y%m%d_%H%M}00_M_1k.jpg"


def archive_path(channel: Channel, minute: datetime) -> str:
    """Return the path of a frame in the archive, relative to its root."""
    hour = f"H{minute:%H}00/" if channel.instrument == "AIA" else ""
    return f"{minute:%Y/%m/%d}/{hour}{file_name(channel, minute)}"
