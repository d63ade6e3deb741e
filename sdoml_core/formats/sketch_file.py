"""The file of a day's sketches: an Arrow IPC file with one row a channel, and a checksum.

What belongs here: bytes from sketches and back, safe on any bytes. What does not: what a sketch
is and how sketches merge (:mod:`sdoml_core.normalization.sketch`).
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
        # Decimal digits: the integers are longer than any integer type of Arrow.
        pa.field("total", pa.string(), nullable=False),
        pa.field("squares", pa.string(), nullable=False),
        pa.field("bins", pa.list_(pa.field("item", pa.uint16(), nullable=False)), nullable=False),
        pa.field("counts", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
    ]
)


def encode_sketches(sketches: Mapping[str, Sketch]) -> bytes:
    """An Arrow IPC file with one row a channel, sorted by name; equal sketches, equal bytes.

    The schema's metadata carries the CRC-32 of the rows, because Arrow keeps no checksum.
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
    """The sketches that `encode_sketches` wrote, by channel name.

    Raises
    ------
    DamagedFileError
        Where the bytes are anything else than what was written.
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
        # Arrow reports damage by any of these, and MemoryError for a size that is absurd.
        raise DamagedFileError(f"not a readable sketch file: {error}") from error
    if batch is None:
        raise DamagedFileError("not a sketch file of a version that this release reads")
    if metadata.get(_CHECKSUM) != rows.checksum():
        raise DamagedFileError("the sketch file's checksum is wrong")
    return rows.sketches()


class _Rows(NamedTuple):
    """The rows of a sketch file, all handled at once: a fit decodes tens of thousands of them."""

    facts: list[list[Any]]
    """The columns before the lists."""

    bins: NDArray[np.uint16]
    """Of all rows, one after another."""

    bin_ends: list[int]
    """Where each row ends in ``bins``."""

    counts: NDArray[np.int64]

    count_ends: list[int]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Rows":
        """Rows of a validated record batch, whose memory they share."""
        facts = [column.to_pylist() for column in batch.columns[:-2]]
        return cls(facts, *_flat(batch.column("bins")), *_flat(batch.column("counts")))

    def checksum(self) -> bytes:
        """CRC-32 of everything that the rows say, as text."""
        checksum = crc32(repr((self.facts, self.bin_ends, self.count_ends)).encode())
        checksum = crc32(self.counts.data, crc32(self.bins.data, checksum))
        return str(checksum).encode()

    def sketches(self) -> dict[str, Sketch]:
        """The rows as sketches, once they make sense."""
        names, frames, pixels, zeros, minima, maxima, totals, squares = self.facts
        spans = [slice(start, end) for start, end in pairwise([0, *self.bin_ends])]
        if names != sorted(set(names)):
            raise DamagedFileError("the channels of a sketch file are sorted and each stands once")
        if not all(map(_DIGITS.fullmatch, totals + squares)):
            raise DamagedFileError("the sums of a sketch are not numbers")
        if self.bin_ends != self.count_ends or self.bins.max(initial=0) >= BINS:
            raise DamagedFileError("bins and counts of a sketch do not belong together")
        ascending = self.bins[1:] > self.bins[:-1]
        ascending[[span.start - 1 for span in spans if 0 < span.start < len(self.bins)]] = True
        least = min(zeros + frames, default=0)
        if not ascending.all() or self.counts.min(initial=1) <= 0 or least < 0:
            raise DamagedFileError("bins of a sketch do not ascend or a count is not positive")
        filled = [row for row, span in enumerate(spans) if span.start < span.stop]
        counted = list(zeros)
        if filled:
            # Sums from each start to the next: rows lie one behind the other, up to the end.
            bright = np.add.reduceat(self.counts, [spans[row].start for row in filled]).tolist()
            for row, count in zip(filled, bright, strict=True):
                counted[row] += count
        if pixels != counted:
            raise DamagedFileError("the counts of a sketch do not add up to its pixels")
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
    """All values of a validated column of lists, and where each list ends among them."""
    offsets = listed.offsets.to_numpy()
    values = listed.values.to_numpy()[offsets[0] : offsets[-1]]
    return values, (offsets[1:] - offsets[0]).tolist()


_DIGITS = re.compile(r"[0-9]{1,200}")  # longer than the sums of 2^63 of the largest float32
