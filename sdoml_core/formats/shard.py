"""Shards: ustar archives of .npy or compact FITS members, written in one pass.

The bytes depend only on the frames. Members are sorted by slot and channel, and have a fixed time,
owner and mode. Any tar tool can read a shard. An index (`sdoml_core.formats.index`) gives the
position of each frame, so that readers can seek.
"""

import hashlib
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng import zlib_ng

from sdoml_core.channels import CHANNELS, Channel, MemberCase
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.compact import decode_compact, frame_of_data
from sdoml_core.formats.encoding import (
    COMPACT_DTYPE,
    DTYPES,
    CompactEncoding,
    EncodedFrame,
    encode_npy,
)
from sdoml_core.formats.index import INDEX_SCHEMA
from sdoml_core.formats.members import member_name, npy_header

BLOCK: Final = tarfile.BLOCKSIZE


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """Metadata of a frame in the index, without its position. Unknown values are None."""

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
    """Number of pixels of the raw frame without data."""
    center_x: float | None = None
    """Measured center of the disk, in pixels right of the middle."""
    center_y: float | None = None
    """Measured center of the disk, in pixels below the middle."""
    radius: float | None = None
    """Measured radius of the disk, in pixels."""
    visible: float | None = None
    """Fraction of the disk that is not dark."""
    brightness: float | None = None
    """Ratio of the level to the neighboring frames' level."""
    similarity: float | None = None
    """Correlation with the neighboring frames."""
    sky: float | None = None
    """Ratio of the sky to the bright quarter of the disk."""
    holes: bytes | None = None
    """Pixels without data; see `sdoml_core.formats.holes`."""
    mean: float | None = None
    """Mean pixel value of the processed frame."""
    saturated: float | None = None
    """Fraction of pixels that are 1 after normalization."""


@dataclass(frozen=True)
class ShardSummary:
    """Summary of a finished shard."""

    table: pa.Table
    """Rows of the index, in the form that `sdoml_core.formats.index.encode_index` expects."""

    bytes: int
    sha256: str


class ShardWriter:
    """Writes one shard sequentially, without seeking.

    Parameters
    ----------
    file
        Output file. Only its ``write`` method is used.
    dtype
        dtype of the members: ``float32`` or ``float16``. Compact members are always ``int32``.
    case
        Case of the channel names in member names.
    encoding
        Encoding of the members; None for npy.
    """

    def __init__(
        self,
        file: BinaryIO,
        *,
        dtype: str = "float32",
        case: MemberCase = "upper",
        encoding: CompactEncoding | None = None,
    ):
        if encoding is None and dtype not in DTYPES:
            raise ValueError(f"the dtype of a shard must be {' or '.join(DTYPES)}, not {dtype}")
        self._file = file
        self._encoding = encoding
        self._dtype = dtype if encoding is None else COMPACT_DTYPE
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
    ) -> None:
        """Append a frame as an npy member.

        Parameters
        ----------
        slot, channel
            Slot and channel. They must increase with each call.
        pixels
            Normalized pixels of shape (n, n), in the dtype of the shard.
        facts
            Metadata of the frame for the index.

        Raises
        ------
        ValueError
            If the dtype or the shape is wrong, or if frames are out of order.
        """
        if pixels.dtype != np.dtype(self._dtype) or pixels.shape != (len(pixels),) * 2:
            raise ValueError(
                f"expected a square {self._dtype} frame, not {pixels.dtype} {pixels.shape}"
            )
        self.add_encoded(slot, channel, encode_npy(pixels), facts)

    def add_encoded(
        self, slot: datetime, channel: Channel, frame: EncodedFrame, facts: FrameFacts
    ) -> None:
        """Append an encoded frame.

        Parameters
        ----------
        slot, channel, facts
            As for `add`.
        frame
            The frame, in the encoding and dtype of the shard.

        Raises
        ------
        ValueError
            If the encoding or the dtype is wrong, or if frames are out of order.
        """
        if (frame.encoding, frame.dtype) != (self._encoding, self._dtype):
            raise ValueError(
                f"expected a {self._encoding or self._dtype} frame, not a "
                f"{frame.encoding or frame.dtype} frame"
            )
        about = {name: getattr(facts, name) for name in FrameFacts.__dataclass_fields__}
        self._append(slot, channel, frame, about)

    def copy(self, source: BinaryIO, table: pa.Table) -> None:
        """Copy frames from another shard, and check each frame against its CRC-32.

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
            data = read_data(source, row)
            if (row["encoding"], row["dtype"]) != (self._encoding, self._dtype):
                raise DamagedFileError(
                    f"{row['member']} is a {row['encoding'] or row['dtype']} frame, not a "
                    f"{self._encoding or self._dtype} frame"
                )
            facts = {name: row[name] for name in FrameFacts.__dataclass_fields__}
            self._append(row["slot"], CHANNELS[row["channel"]], _frame_of(row, data), facts)

    def _append(
        self, slot: datetime, channel: Channel, frame: EncodedFrame, facts: dict[str, Any]
    ) -> None:
        suffix = "npy" if frame.encoding is None else "fits"
        name = member_name(slot, channel, self._case, suffix=suffix)
        if self._rows and (self._rows[-1]["slot"], self._rows[-1]["channel"]) >= (
            slot,
            channel.name,
        ):
            raise ValueError(
                f"members must be added in order: {name} belongs before {self._rows[-1]['member']}"
            )
        info = tarfile.TarInfo(name)  # default values: mode 0644, no owner, time 0
        info.size = frame.size
        offset = self._position + BLOCK
        self._rows.append(
            {
                "slot": slot,
                "channel": channel.name,
                "member": name,
                "offset": offset,
                "size": info.size,
                "data_offset": offset + len(frame.header),
                "crc32": frame.crc32,
                "dtype": frame.dtype,
                "resolution": frame.resolution,
                "encoding": frame.encoding,
                "step": frame.step,
                "data_size": None if frame.encoding is None else len(frame.data),
                **facts,
            }
        )
        self._write(info.tobuf(tarfile.USTAR_FORMAT) + frame.header)
        self._write(frame.data)
        self._write(bytes(frame.padding + -info.size % BLOCK))

    def close(self) -> ShardSummary:
        """Finish the tar file, and return a summary of the shard. The file stays open."""
        end = self._position + 2 * BLOCK
        self._write(bytes(2 * BLOCK + -end % tarfile.RECORDSIZE))
        table = pa.Table.from_pylist(self._rows, schema=INDEX_SCHEMA)
        return ShardSummary(table, self._position, self._hash.hexdigest())

    def _write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        self._file.write(data)
        self._position += len(data)


def read_data(source: BinaryIO, row: Mapping[str, Any]) -> bytes:
    """Read the data of a frame from its shard, and check them against the CRC-32 in the index.

    Parameters
    ----------
    source
        The shard. It must be seekable.
    row
        Row of the frame in the index.

    Raises
    ------
    DamagedFileError
        If the source does not match the row.
    """
    size = row["data_size"] or row["size"] - (row["data_offset"] - row["offset"])
    source.seek(row["data_offset"])
    data = source.read(size)
    if len(data) != size or zlib_ng.crc32(data) != row["crc32"]:
        raise DamagedFileError(f"the data of {row['member']} do not match the index")
    return data


def decode_data(data: bytes, row: Mapping[str, Any]) -> NDArray[np.float32] | NDArray[np.float16]:
    """Return the normalized pixels of a frame, shape (n, n).

    Parameters
    ----------
    data
        Data of the frame.
    row
        ``encoding``, ``step``, ``dtype`` and ``resolution`` of the frame in its index.

    Returns
    -------
    float32, or the dtype of an npy member.

    Raises
    ------
    DamagedFileError
        If the compressed data are damaged.
    """
    shape = (row["resolution"],) * 2
    if row["encoding"] is not None:
        return decode_compact(data, row["step"], np.empty(shape, np.float32))
    return np.frombuffer(data, np.dtype(row["dtype"]).newbyteorder("<")).reshape(shape)


def _frame_of(row: Mapping[str, Any], data: bytes) -> EncodedFrame:
    """Return the encoded frame of an index row, without decoding it."""
    if row["encoding"] is not None:
        return frame_of_data(
            data,
            resolution=row["resolution"],
            step=row["step"],
            encoding=row["encoding"],
            crc32=row["crc32"],
        )
    header = npy_header(row["dtype"], row["resolution"])
    return EncodedFrame(header, data, 0, row["crc32"], row["dtype"], row["resolution"])
