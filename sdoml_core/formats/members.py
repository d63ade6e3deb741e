"""Shard members: their names and npy headers."""

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
    r"(?P<channel>(?:AIA|aia)_[0-9]{4}|HMI_M|hmi_m)\.(?P<suffix>npy|fits)"
)
"""Pattern of valid member names. It rejects names that point outside their folder."""

NPY_HEADER: Final = re.compile(
    rb"\{'descr': '<f([24])', 'fortran_order': False, "
    rb"'shape': \(([0-9]{1,5}), ([0-9]{1,5})\), \} *\n"
)


def member_name(
    slot: datetime, channel: Channel, case: MemberCase = "upper", *, suffix: str = "npy"
) -> str:
    """Return the name of a member: ``2024/03/08/0015.AIA_0193.npy``, or ``….aia_0193.npy``.

    The suffix is ``npy``, or ``fits`` for compact members.
    """
    label = channel.name if case == "upper" else channel.name.lower()
    return f"{slot:%Y/%m/%d/%H%M}.{label}.{suffix}"


def parse_member_name(name: str) -> tuple[datetime, Channel]:
    """Parse the slot and channel from a member name, with the channel in upper or lower case.

    Raises
    ------
    DamagedFileError
        If the name is not one that `member_name` returns.
    """
    match = MEMBER_NAME.fullmatch(name)
    channel = CHANNELS.get(match["channel"].upper()) if match else None
    if match is None or channel is None:
        raise DamagedFileError(f"{name!r} is not a valid name for a shard member")
    try:
        slot = datetime.strptime(f"{match['day']}/{match['minute']}Z", "%Y/%m/%d/%H%M%z")
    except ValueError as error:
        raise DamagedFileError(f"member {name!r} has an invalid time") from error
    return slot.astimezone(UTC), channel


@functools.cache
def npy_header(dtype: str, resolution: int) -> bytes:
    """Return the npy header (format 1.0) of a square frame."""
    sink = io.BytesIO()
    facts = {"descr": f"<{np.dtype(dtype).str[1:]}", "fortran_order": False}
    np.lib.format.write_array_header_1_0(sink, {**facts, "shape": (resolution, resolution)})
    return sink.getvalue()


def parse_npy_header(name: str, start: bytes, size: int) -> tuple[int, str, int]:
    """Parse an npy header. Return its length, and the dtype and the resolution of the frame."""
    if start[:6] != b"\x93NUMPY" or start[6:8] != b"\x01\x00":
        raise DamagedFileError(f"{name} is not an npy file of format 1.0")
    length = 10 + int.from_bytes(start[8:10], "little")
    match = NPY_HEADER.fullmatch(start[10:length])
    if match is None or match[2] != match[3]:
        raise DamagedFileError(f"{name} is not a square float32 or float16 array in C order")
    item, side = int(match[1]), int(match[2])
    if length + item * side * side != size or side == 0:
        raise DamagedFileError(
            f"{name} is {size} bytes long, which does not match {side}×{side} pixels"
        )
    return length, f"float{8 * item}", side
