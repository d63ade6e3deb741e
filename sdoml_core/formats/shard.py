"""Shards: plain ustar archives of .npy members, written in one pass.

The bytes depend only on the frames: members are sorted by slot and channel, with fixed time,
owner and mode. Any tar tool reads them; an index (`sdoml_core.formats.index`) makes them seekable.
"""

import hashlib
import tarfile
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from sdoml_core.channels import CHANNELS, Channel, MemberCase
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.index import DTYPES, INDEX_SCHEMA
from sdoml_core.formats.members import member_name, npy_header

BLOCK: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Metadata of a frame in the index, besides its position. None if unknown."""

    observed: datetime | None = None
    exposure: float | None = None
    """Exposure time in s."""
    quality: int | None = None
    rsun_obs: float | None = None
    """Apparent solar radius in arcsec."""
    degradation: float | None = None
    constant: float | None = None
    """Constant c of the transform."""
    transform: str | None = None
    """``sqrt``: y = √(min(x, c)/c). ``linear``: y = x/c."""
    flags: int | None = None
    """See `sdoml_core.frames.flags`."""
    missing: int | None = None
    """Pixels of the raw frame without data."""
    center_x: float | None = None
    """Measured center of the disk, pixels right of the middle."""
    center_y: float | None = None
    """Measured center of the disk, pixels below the middle."""
    radius: float | None = None
    """Measured radius of the disk, pixels."""
    visible: float | None = None
    """Fraction of the disk that is not dark."""
    brightness: float | None = None
    """Ratio of the level to that of the neighboring frames."""
    similarity: float | None = None
    """Correlation with the neighboring frames."""
    sky: float | None = None
    """Ratio of the sky to the bright quarter of the disk."""
    holes: bytes | None = None
    """Pixels without data; see `sdoml_core.formats.holes`."""


@dataclass(frozen=True)
class ShardSummary:
    """Description of a finished shard."""

    table: pa.Table
    """Rows of the index, as `sdoml_core.formats.index.encode_index` takes them."""

    bytes: int
    sha256: str


class ShardWriter:
    """Write one shard sequentially, without seeking.

    Parameters
    ----------
    file
        Output file; only its ``write`` is used.
    dtype
        dtype of the members: ``float32`` or ``float16``.
    case
        Case of the channels in member names.
    """

    def __init__(self, file: BinaryIO, *, dtype: str = "float32", case: MemberCase = "upper"):
        if dtype not in DTYPES:
            raise ValueError(f"shards hold {' or '.join(DTYPES)}, not {dtype}")
        self._file = file
        self._dtype = dtype
        self._case: MemberCase = case
        self._hash = hashlib.sha256()
        self._position = 0
        self._rows: list[dict[str, Any]] = []

    def add(
        self,
        slot: datetime,
        channel: Channel,
        pixels: NDArray[np.float32] | NDArray[np.float16],
        facts: FrameFacts,
        *,
        crc32: int | None = None,
    ) -> None:
        """Append a frame.

        Parameters
        ----------
        slot, channel
            Must ascend from call to call.
        pixels
            Normalized pixels of shape (n, n), in the dtype of the shard.
        facts
            Metadata of the frame for the index.
        crc32
            CRC-32 of the pixel bytes, if already known.

        Raises
        ------
        ValueError
            If dtype or shape are wrong, or frames are out of order.
        """
        if pixels.dtype != np.dtype(self._dtype) or pixels.shape != (len(pixels),) * 2:
            raise ValueError(
                f"expected a square {self._dtype} frame, not {pixels.dtype} {pixels.shape}"
            )
        data = np.ascontiguousarray(pixels, dtype=np.dtype(self._dtype).newbyteorder("<"))
        crc32 = zlib_ng.crc32(data.data) if crc32 is None else crc32
        about = {"resolution": len(pixels), "crc32": crc32}
        about |= {name: getattr(facts, name) for name in FrameFacts.__dataclass_fields__}
        self._append(slot, channel, data.data.cast("B"), about)

    def copy(self, source: BinaryIO, table: pa.Table) -> None:
        """Copy frames from another shard and check each against its crc32.

        Parameters
        ----------
        source
            The other shard. It must be seekable.
        table
            The index rows of the frames to copy.

        Raises
        ------
        DamagedFileError
            If the source does not match its index.
        """
        for row in table.to_pylist():
            pixels = row["size"] - (row["data_offset"] - row["offset"])
            source.seek(row["data_offset"])
            data = source.read(pixels)
            if len(data) != pixels or zlib_ng.crc32(data) != row["crc32"]:
                raise DamagedFileError(f"{row['member']} does not match the index")
            if row["dtype"] != self._dtype:
                raise DamagedFileError(f"{row['member']} is {row['dtype']}, not {self._dtype}")
            kept = ("resolution", "crc32", *FrameFacts.__dataclass_fields__)
            about = {name: row[name] for name in kept}
            self._append(row["slot"], CHANNELS[row["channel"]], memoryview(data), about)

    def _append(
        self, slot: datetime, channel: Channel, data: memoryview, about: dict[str, Any]
    ) -> None:
        name = member_name(slot, channel, self._case)
        if self._rows and (self._rows[-1]["slot"], self._rows[-1]["channel"]) >= (
            slot,
            channel.name,
        ):
            raise ValueError(f"{name} must come before {self._rows[-1]['member']}")
        header = npy_header(self._dtype, about["resolution"])
        info = tarfile.TarInfo(name)  # its defaults are mode 0644, no owner, time 0
        info.size = len(header) + len(data)
        offset = self._position + BLOCK
        self._rows.append(
            {
                "slot": slot,
                "channel": channel.name,
                "member": name,
                "offset": offset,
                "size": info.size,
                "data_offset": offset + len(header),
                "dtype": self._dtype,
                **about,
            }
        )
        self._write(info.tobuf(tarfile.USTAR_FORMAT) + header)
        self._write(data)
        self._write(bytes(-info.size % BLOCK))

    def close(self) -> ShardSummary:
        """Finish the archive and describe it. The file stays open."""
        end = self._position + 2 * BLOCK
        self._write(bytes(2 * BLOCK + -end % tarfile.RECORDSIZE))
        table = pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA)
        return ShardSummary(table, self._position, self._hash.hexdigest())

    def _write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)
        self._position += len(data)
