"""Find the members of a shard by reading its headers, without an index."""

import io
import math
import re
import tarfile
from dataclasses import dataclass, replace
from datetime import datetime
from typing import BinaryIO, Final

from sdoml_core.channels import Channel
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.compact import HEADER_BYTES, parse_compact_header
from sdoml_core.formats.encoding import COMPACT_DTYPE
from sdoml_core.formats.members import parse_member_name, parse_npy_header

BLOCK: Final = tarfile.BLOCKSIZE
MAX_EXTENDED_HEADER: Final = 64 * 1024
_DECIMAL: Final = re.compile(rb"[0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Member:
    """A frame that was found by reading headers."""

    slot: datetime
    channel: Channel
    name: str
    offset: int
    """First byte of the member in the shard."""
    size: int
    """Size of the member in bytes."""
    data_offset: int
    """First byte of the data in the shard."""
    dtype: str
    resolution: int
    encoding: str | None = None
    """``compact`` for compact members with any step; None for npy."""
    step: float | None = None
    data_size: int | None = None
    """As in the index; None for npy."""


def scan_shard(file: BinaryIO) -> list[Member]:
    """List the members of a shard in file order. Only headers are read.

    Files written by tarfile and webdataset.TarWriter are supported: pax and GNU headers before a
    member, lowercase names, and folders.

    Parameters
    ----------
    file
        A seekable file.

    Raises
    ------
    DamagedFileError
        If the file is not a complete tar file; if it contains a link, a device or an invalid member
        name; if a member is neither a compact frame nor a square float32 or float16 frame; or if a
        member occurs twice.
    """
    end = file.seek(0, io.SEEK_END)
    members: list[Member] = []
    seen: set[tuple[datetime, Channel]] = set()
    position = 0
    extended: dict[str, str] = {}
    while True:
        info, blocks = _header(file, position, end)
        if info is None:
            return members
        position += BLOCK
        size = int(extended.get("size", info.size))
        if size > end - position or size < 0:
            raise DamagedFileError(
                f"the shard is truncated: {info.name!r} has {size} bytes, but only "
                f"{end - position} bytes follow its header"
            )
        following = position + math.ceil(size / BLOCK) * BLOCK
        if info.type in {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME}:
            if info.type != tarfile.XGLTYPE:
                extended |= _extension(info, _read(file, position, size))
        elif info.isdir():
            extended = {}
        elif not info.isreg() or info.type not in tarfile.REGULAR_TYPES:
            raise DamagedFileError(f"a shard may contain only regular files, not {info.name!r}")
        else:
            slot, channel = parse_member_name(extended.get("path", info.name))
            if (slot, channel) in seen:
                raise DamagedFileError(
                    f"the shard contains {channel} for {slot:%Y-%m-%dT%H:%M} twice"
                )
            seen.add((slot, channel))
            name = extended.get("path", info.name)
            member = Member(slot, channel, name, position, size, position, "", 0)
            if name.endswith(".fits"):
                start = _read(file, position, min(size, HEADER_BYTES))
                members.append(_compact(member, start))
            else:
                members.append(_npy(member, blocks[BLOCK:]))
            extended = {}
        position = following


def _npy(member: Member, start: bytes) -> Member:
    """Create a member from its npy header."""
    lead, dtype, side = parse_npy_header(member.name, start, member.size)
    return replace(member, data_offset=member.offset + lead, dtype=dtype, resolution=side)


def _compact(member: Member, start: bytes) -> Member:
    """Create a member from its FITS headers."""
    side, step, used = parse_compact_header(member.name, start, member.size)
    return replace(
        member,
        data_offset=member.offset + HEADER_BYTES,
        dtype=COMPACT_DTYPE,
        resolution=side,
        encoding="compact",
        step=step,
        data_size=used,
    )


def _read(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _header(file: BinaryIO, position: int, end: int) -> tuple[tarfile.TarInfo | None, bytes]:
    """Read the tar header at a position and some bytes after it. The header is None at the end."""
    blocks = _read(file, position, 2 * BLOCK)
    if len(blocks) >= BLOCK and not any(blocks[:BLOCK]):
        return None, blocks
    try:
        return tarfile.TarInfo.frombuf(blocks[:BLOCK], "utf-8", "surrogateescape"), blocks
    except (tarfile.HeaderError, ValueError) as error:
        where = f"byte {position} of {end}"
        raise DamagedFileError(f"not a complete tar archive: {error} at {where}") from error


def _extension(info: tarfile.TarInfo, data: bytes) -> dict[str, str]:
    """Read the name and the size of a member from the pax or GNU header before it."""
    if len(data) > MAX_EXTENDED_HEADER:
        raise DamagedFileError(
            f"a tar header is {len(data)} bytes long, more than {MAX_EXTENDED_HEADER}"
        )
    if info.type == tarfile.GNUTYPE_LONGNAME:
        return {"path": data.rstrip(b"\0").decode("utf-8", "surrogateescape")}
    records: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not (_DECIMAL.fullmatch(length) and len(length) < int(length) <= len(data)):
            raise DamagedFileError("a pax header is damaged")
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        if key in {b"path", b"size"}:
            records[key.decode()] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    if not _DECIMAL.fullmatch(records.get("size", "0").encode(errors="replace")):
        raise DamagedFileError("a pax header is damaged")
    return records
