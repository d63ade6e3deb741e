"""The file with the sketches of a day: an Arrow IPC file with one row per channel and a checksum.

This module encodes and decodes sketches. It is safe to use on untrusted bytes. The sketches
themselves are defined in :mod:`sdoml_core.normalization.sketch`.
"""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from zlib_ng.zlib_ng import crc32

from sdoml_core.errors import DamagedFileError
from sdoml_core.normalization.sketch import BINS, Sketch

_FORMAT, _VERSION = b"sdoml.sketch", b"1"
_CHECKSUM = b"crc32"
_SCHEMA = pa.schema(
    [
        pa.field("channel", pa.string(), nullable=False),
        pa.field("frames", pa.int64(), nullable=False),
        pa.field("pixels", pa.int64(), nullable=False),
        pa.field("zeros", pa.int64(), nullable=False),
        pa.field("minimum", pa.float32(), nullable=False),
        pa.field("maximum", pa.float32(), nullable=False),
        # These are stored as decimal digits, because the integers exceed Arrow's integer types.
        pa.field("total", pa.string(), nullable=False),
        pa.field("squares", pa.string(), nullable=False),
        pa.field("bins", pa.list_(pa.field("item", pa.uint16(), nullable=False)), nullable=False),
        pa.field("counts", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
    ]
)


def encode_sketches(sketches: Mapping[str, Sketch]) -> bytes:
    """Encode sketches as an Arrow IPC file with one row per channel, sorted by name.

    Equal sketches give equal bytes. The schema metadata contains the CRC-32 of the rows, because
    Arrow IPC files have no checksum.
    """
    rows = sorted(sketches.items())
    columns = [
        [name for name, _ in rows],
        [sketch.frames for _, sketch in rows],
        [sketch.pixels for _, sketch in rows],
        [sketch.zeros for _, sketch in rows],
        [sketch.minimum for _, sketch in rows],
        [sketch.maximum for _, sketch in rows],
        [str(sketch.total) for _, sketch in rows],
        [str(sketch.squares) for _, sketch in rows],
        [sketch.bins for _, sketch in rows],
        [sketch.counts for _, sketch in rows],
    ]
    arrays = [pa.array(column, kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
    batch = pa.record_batch(arrays, schema=_SCHEMA)
    metadata = {_FORMAT: _VERSION, _CHECKSUM: _Rows.of(batch).checksum()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA.with_metadata(metadata)) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode_sketches(data: bytes) -> dict[str, Sketch]:
    """Decode the output of `encode_sketches` to sketches by channel name.

    Raises
    ------
    DamagedFileError
        If the bytes are damaged or not a sketch file.
    """
    try:
        reader = pa.ipc.RecordBatchFileReader(pa.py_buffer(data))
        schema = reader.schema
        metadata = schema.metadata or {}
        known = metadata.get(_FORMAT) == _VERSION and schema.equals(_SCHEMA)
        batch = reader.get_batch(0) if known and reader.num_record_batches == 1 else None
        if batch is not None:
            batch.validate(full=True)
            rows = _Rows.of(batch)
    except (pa.ArrowException, OSError, MemoryError, ValueError, TypeError) as error:
        # Arrow raises any of these errors for damaged data. MemoryError means that a size is
        # impossible.
        raise DamagedFileError(f"not a readable sketch file: {error}") from error
    if batch is None:
        raise DamagedFileError("not a sketch file of a supported version")
    if metadata.get(_CHECKSUM) != rows.checksum():
        raise DamagedFileError("the sketch file does not match its checksum")
    return rows.sketches()


class _Rows(NamedTuple):
    """All rows of a sketch file, validated together for speed, because a fit reads many files."""

    facts: list[list[Any]]
    """The columns that are not lists."""

    bins: NDArray[np.uint16]
    """The lists of all rows, concatenated."""

    bin_ends: list[int]
    """End of each row in ``bins``."""

    counts: NDArray[np.int64]

    count_ends: list[int]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Rows":
        """Read the rows of a validated record batch without copying."""
        facts = [column.to_pylist() for column in batch.columns[:-2]]
        return cls(facts, *_flat(batch.column("bins")), *_flat(batch.column("counts")))

    def checksum(self) -> bytes:
        """Return the CRC-32 of the content of all rows as text."""
        checksum = crc32(repr((self.facts, self.bin_ends, self.count_ends)).encode())
        checksum = crc32(self.counts.data, crc32(self.bins.data, checksum))
        return str(checksum).encode()

    def sketches(self) -> dict[str, Sketch]:
        """Validate the rows and convert them to sketches."""
        names, frames, pixels, zeros, minima, maxima, totals, squares = self.facts
        spans = [slice(start, end) for start, end in pairwise([0, *self.bin_ends])]
        if names != sorted(set(names)):
            raise DamagedFileError("the channels of a sketch file must be sorted and unique")
        if not all(map(_DIGITS.fullmatch, totals + squares)):
            raise DamagedFileError("the sums of a sketch are not integers")
        if self.bin_ends != self.count_ends or self.bins.max(initial=0) >= BINS:
            raise DamagedFileError("the bins and counts of a sketch do not match")
        ascending = self.bins[1:] > self.bins[:-1]
        ascending[[span.start - 1 for span in spans if 0 < span.start < len(self.bins)]] = True
        least = min(zeros + frames, default=0)
        if not ascending.all() or self.counts.min(initial=1) <= 0 or least < 0:
            raise DamagedFileError("the bins of a sketch do not ascend, or a count is not positive")
        filled = [row for row, span in enumerate(spans) if span.start < span.stop]
        counted = list(zeros)
        if filled:
            # Rows are contiguous, so the sum from each start to the next start covers one row.
            bright = np.add.reduceat(self.counts, [spans[row].start for row in filled]).tolist()
            for row, count in zip(filled, bright, strict=True):
                counted[row] += count
        if pixels != counted:
            raise DamagedFileError("the counts of a sketch do not add up to its pixel count")
        return {
            name: Sketch(
                frames=frames[row],
                pixels=pixels[row],
                zeros=zeros[row],
                minimum=minima[row],
                maximum=maxima[row],
                total=int(totals[row]),
                squares=int(squares[row]),
                bins=self.bins[span],
                counts=self.counts[span],
            )
            for row, (name, span) in enumerate(zip(names, spans, strict=True))
        }


def _flat(listed: pa.ListArray) -> tuple[NDArray[Any], list[int]]:
    """Return the concatenated values of a list column and the end of each list."""
    offsets = listed.offsets.to_numpy()
    values = listed.values.to_numpy()[offsets[0] : offsets[-1]]
    return values, (offsets[1:] - offsets[0]).tolist()


_DIGITS = re.compile(r"[0-9]{1,200}")  # more digits than any sum of 2^63 pixels
