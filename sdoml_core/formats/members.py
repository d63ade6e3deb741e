"""Members of shards: what they are called, and the npy header that each begins with."""

import functools
import io
import re
from datetime import UTC, datetime
from typing import Final

import numpy as np

from sdoml_core.channels import CHANNELS, Channel, MemberCase
from sdoml_core.errors import DamagedFileError

MEMBER_NAME: Final = re.compile(
    r"(?P<day>[0-9]{4}/[0-9]{2}/[0-9]{2})/(?P<minute>[0-9]{4})\."
    r"(?P<channel>(?:AIA|aia)_[0-9]{4}|HMI_M|hmi_m)\.npy"
)
"""What a member may be called: no name that could lead out of a folder passes."""

NPY_HEADER: Final = re.compile(
    rb"\{'descr': '<f([24])', 'fortran_order': False, "
    rb"'shape': \(([0-9]{1,5}), ([0-9]{1,5})\), \} *\n"
)


def member_name(slot: datetime, channel: Channel, case: MemberCase = "upper") -> str:
    """Name of a member: ``2024/03/08/0015.AIA_0193.npy``, or ``….aia_0193.npy``."""
    label = channel.name if case == "upper" else channel.name.lower()
    return f"{slot:%Y/%m/%d/%H%M}.{label}.npy"


def parse_member_name(name: str) -> tuple[datetime, Channel]:
    """Slot and channel of a member, whatever the case of its name.

    Raises
    ------
    DamagedFileError
        For every name that `member_name` cannot have made.
    """
    match = MEMBER_NAME.fullmatch(name)
    channel = CHANNELS.get(match["channel"].upper()) if match else None
    if match is None or channel is None:
        raise DamagedFileError(f"a shard holds no member {name!r}")
    try:
        slot = datetime.strptime(f"{match['day']}/{match['minute']}Z", "%Y/%m/%d/%H%M%z")
    except ValueError as error:
        raise DamagedFileError(f"member {name!r} has a time that does not exist") from error
    return slot.astimezone(UTC), channel


@functools.cache
def npy_header(dtype: str, resolution: int) -> bytes:
    """Header (npy format 1.0) of a square frame."""
    sink = io.BytesIO()
    facts = {"descr": f"<{np.dtype(dtype).str[1:]}", "fortran_order": False}
    np.lib.format.write_array_header_1_0(sink, {**facts, "shape": (resolution, resolution)})
    return sink.getvalue()


def parse_npy_header(name: str, start: bytes, size: int) -> tuple[int, str, int]:
    """Length of an npy header, dtype and pixels a side of the frame that follows it."""
    if start[:6] != b"\x93NUMPY" or start[6:8] != b"\x01\x00":
        raise DamagedFileError(f"{name} is not an npy array of format 1.0")
    length = 10 + int.from_bytes(start[8:10], "little")
    match = NPY_HEADER.fullmatch(start[10:length])
    if match is None or match[2] != match[3]:
        raise DamagedFileError(f"{name} is not a square float32 or float16 array in C order")
    item, side = int(match[1]), int(match[2])
    if length + item * side * side != size or side == 0:
        raise DamagedFileError(f"{name} has {size} bytes, not what {side}×{side} pixels need")
    return length, f"float{8 * item}", side
