"""The archive's directory tree: the name and path of each frame.

AIA file names contain UTC times, and HMI file names contain TAI times. The definitive AIA tree has
a frame for every even minute. The near-real-time tree has one every three minutes.
"""

from datetime import datetime

from sdoml_core.channels import Channel, Instrument


def file_name(channel: Channel, minute: datetime) -> str:
    """Return the file name: ``AIA20240102_0100_0094.fits`` or ``20240102_010000_M_1k.jpg``."""
    if channel.instrument == "AIA":
        return f"AIA{minute:%Y%m%d_%H%M}_{channel.wavelength:04d}.fits"
    return f"{minute:%Y%m%d_%H%M}00_M_1k.jpg"


def archive_path(channel: Channel, minute: datetime) -> str:
    """Return the path of a frame in the archive, relative to its root."""
    hour = f"H{minute:%H}00/" if channel.instrument == "AIA" else ""
    return f"{minute:%Y/%m/%d}/{hour}{file_name(channel, minute)}"


def live_folder(hour: datetime) -> str:
    """Return the folder with an hour's near-real-time AIA frames, relative to the AIA root."""
    return f"nrt/{hour:%Y/%m/%d}/H{hour:%H}00/"


def live_path(channel: Channel, minute: datetime) -> str:
    """Return the path of a near-real-time frame, relative to the root of its instrument.

    AIA frames have a separate tree and different names, such as ``AIA20260330_204500_1700.fits``.
    HMI images are in the ordinary catalog.
    """
    if channel.instrument == "HMI":
        return archive_path(channel, minute)
    name = f"AIA{minute:%Y%m%d_%H%M}00_{channel.wavelength:04d}.fits"
    return live_folder(minute) + name


def newest_path(instrument: Instrument) -> str:
    """Return the path of the file that states a tree's newest time, relative to the root."""
    return "nrt/image_times" if instrument == "AIA" else "image_times"
