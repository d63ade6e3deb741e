"""Validate the complete structure of a JPEG file.

JPEG has no checksum, and decoders silently conceal errors such as a flipped bit or a missing half
of the image. However, a damaged baseline file is often inconsistent. It has invalid Huffman codes,
more or fewer bits than the image needs, or restart markers that are out of order. `read_scan`
decodes the entropy-coded segment to its end and returns statistics of each 8×8 block, so that the
caller can check whether the image is plausible.

The format is defined by ITU-T T.81: markers in annex B, Huffman decoding in annex F.2.2.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sdoml_core.errors import CorruptFrameError, NotAnImageError, TruncatedFrameError

PADDING: Final = b"\0\r\n"
"""Bytes that may follow the end of the image."""

_BASELINE: Final = frozenset({0xC0, 0xC1})
_OTHER_FRAMES: Final = frozenset({0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xD0)} - {0xCC})
_RESTARTS: Final = range(0xD0, 0xD8)
_START, _END, _SCAN, _TABLES, _HUFFMAN, _INTERVAL = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD
_MARKER: Final = re.compile(rb"\xff[^\x00]")

_OK, _BAD_CODE, _BAD_RUN, _SHORT, _LONG = range(5)
_DAMAGE: Final = {
    _BAD_CODE: "a Huffman code does not exist",
    _BAD_RUN: "a block has more than 64 coefficients",
    _SHORT: "the data ends before the last block",
    _LONG: "data is left over after the last block",
}


@dataclass(frozen=True, slots=True)
class Component:
    """A component of the image: luminance, or one of the two chrominance components."""

    number: int
    horizontal: int
    """Sampling factor along the rows."""
    vertical: int
    table: int
    """Number of the quantization table."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Structure of a JPEG file, read from its markers."""

    width: int
    height: int
    baseline: bool
    """Whether this is a sequential Huffman-coded file with one scan, which `read_scan` can
    decode."""
    components: tuple[Component, ...]
    quantization: dict[int, NDArray[np.int32]]
    """Quantization tables (64,), in zigzag order."""
    huffman: dict[int, bytes]
    """Huffman tables by class and number (``class << 4 | number``), as stored in the file."""
    selected: tuple[tuple[int, int], ...] = ()
    """Numbers of the DC and AC tables of each component in the scan."""
    interval: int = 0
    """MCUs between restart markers; 0 if there are none."""
    data_start: int = 0
    """First byte of the entropy-coded segment."""
    data_end: int = 0
    """First byte after the entropy-coded segment."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Statistics of the 8×8 blocks of one component."""

    mean: NDArray[np.int32]
    """DC coefficient of each block times its quantization step, which is 8 times the mean of the
    block minus 1024. Shape (rows, columns)."""

    energy: NDArray[np.int32]
    """Largest absolute value of the other coefficients, times their steps; 0 for a flat block."""


def read_structure(data: bytes) -> Structure:
    """Read all markers of a file.

    Raises
    ------
    NotAnImageError
        If the bytes are not a JPEG file.
    TruncatedFrameError
        If the bytes end before the image is complete.
    CorruptFrameError
        If a marker is not at the expected position, or its segment is invalid.
    """
    if not data:
        raise NotAnImageError("empty")
    if not data.startswith(b"\xff\xd8\xff"):
        page = data[:512].lstrip().startswith(b"<")
        raise NotAnImageError("an HTML or XML page, not a JPEG" if page else "not a JPEG")
    parts: dict[str, Any] = {"quantization": {}, "huffman": {}}
    position = 2
    while True:
        marker, body, position = _segment(data, position)
        if marker == _SCAN:
            break
        _read_segment(marker, body, parts)
    if "width" not in parts:
        raise CorruptFrameError("the scan begins before the frame header")
    start = position
    baseline = parts["baseline"]
    if baseline:
        parts["selected"] = _selected(body, parts["components"])
        # Files with one scan per component are valid, but their blocks have a different order.
        baseline = len(parts["selected"]) == len(parts["components"])
    end = _end_of_image(data, start) if baseline else _last_marker(data, start)
    return Structure(**parts | {"baseline": baseline, "data_start": start, "data_end": end})


def read_scan(data: bytes, structure: Structure) -> tuple[Blocks, ...]:
    """Decode the entropy-coded segment of a baseline file to its end.

    Parameters
    ----------
    data
        The whole file.
    structure
        Result of `read_structure` with ``baseline`` true.

    Returns
    -------
    The blocks of each component, including the blocks that pad the image to whole MCUs.

    Raises
    ------
    CorruptFrameError
        If a Huffman code does not exist, if data is missing or left over, or if restart markers are
        out of order.
    """
    parts = structure.components
    if len(parts) == 1:  # without interleaving, an MCU is one block
        parts = (Component(parts[0].number, 1, 1, parts[0].table),)
    wide, high = max(c.horizontal for c in parts), max(c.vertical for c in parts)
    columns, rows = -(-structure.width // (8 * wide)), -(-structure.height // (8 * high))
    shapes = [(rows * c.vertical, columns * c.horizontal) for c in parts]
    largest = tuple(max(shape[axis] for shape in shapes) for axis in (0, 1))
    mean = np.zeros((len(parts), *largest), np.int32)
    energy = np.zeros((len(parts), *largest), np.int32)
    try:
        fast, lookups = _lookups(
            tuple(
                structure.huffman[kind << 4 | pair[kind]]
                for pair in structure.selected
                for kind in (0, 1)
            )
        )
        steps = np.stack([structure.quantization[c.table] for c in parts])
    except KeyError as error:
        raise CorruptFrameError("the scan names a table that the file does not have") from error
    sampling = np.array([(c.horizontal, c.vertical) for c in parts], np.int64)
    first = 0
    for stream, count in _intervals(data, structure, columns * rows):
        where = np.array([columns, first, count], np.int64)
        damage = _decode(stream, where, sampling, (fast, lookups, steps), (mean, energy))
        if damage != _OK:
            raise CorruptFrameError(f"the compressed pixels are damaged: {_DAMAGE[damage]}")
        first += count
    return tuple(
        Blocks(mean[n, :height, :width], energy[n, :height, :width])
        for n, (height, width) in enumerate(shapes)
    )


def _segment(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Return a marker, the body of its segment, and the position of the next marker."""
    while data[position : position + 2] == b"\xff\xff":  # fill bytes
        position += 1
    if position + 4 > len(data):
        raise TruncatedFrameError(f"{len(data)} bytes, which end before the image begins")
    if data[position] != 0xFF or data[position + 1] in {0, _START, _END, *_RESTARTS}:
        raise CorruptFrameError(f"no JPEG marker at byte {position}")
    length = int.from_bytes(data[position + 2 : position + 4], "big")
    following = position + 2 + length
    if length < 2:
        raise CorruptFrameError(f"the segment at byte {position} is {length} bytes long")
    if following > len(data):
        raise TruncatedFrameError(f"{len(data)} bytes, which end within a JPEG segment")
    return data[position + 1], data[position + 4 : following], following


def _read_segment(marker: int, body: bytes, parts: dict[str, Any]) -> None:
    """Store the content of one segment in `parts`."""
    try:
        if marker in _BASELINE or marker in _OTHER_FRAMES:
            if "width" in parts:
                raise CorruptFrameError("the JPEG has two frame headers")
            parts |= _frame(body) | {"baseline": marker in _BASELINE}
        elif marker == _TABLES:
            _read_quantization(body, parts["quantization"])
        elif marker == _HUFFMAN:
            _read_huffman(body, parts["huffman"])
        elif marker == _INTERVAL:
            parts["interval"] = int.from_bytes(body, "big")
            if len(body) != 2:
                raise CorruptFrameError("the restart interval is damaged")
    except IndexError as error:
        raise CorruptFrameError(f"the JPEG segment 0x{marker:02X} is truncated") from error


def _read_quantization(body: bytes, tables: dict[int, NDArray[np.int32]]) -> None:
    while body:
        number, wide = body[0] & 15, body[0] >> 4
        size = 65 + 64 * wide
        if number > 3 or wide > 1 or len(body) < size:
            raise CorruptFrameError("a quantization table is damaged")
        values = np.frombuffer(body, ">u2" if wide else "u1", 64, offset=1)
        if not values.all():
            raise CorruptFrameError("a quantization table is damaged")
        tables[number] = values.astype(np.int32)
        body = body[size:]


def _read_huffman(body: bytes, tables: dict[int, bytes]) -> None:
    while body:
        size = 17 + sum(body[1:17])
        if len(body) < size or body[0] >> 4 > 1 or body[0] & 15 > 3:
            raise CorruptFrameError("a Huffman table is damaged")
        _lookup(body[1:size])
        tables[body[0]] = body[1:size]
        body = body[size:]


def _frame(body: bytes) -> dict[str, Any]:
    """Parse the frame header."""
    height, width, count = (
        int.from_bytes(body[1:3], "big"),
        int.from_bytes(body[3:5], "big"),
        body[5],
    )
    components = tuple(
        Component(body[n], body[n + 1] >> 4, body[n + 1] & 15, body[n + 2])
        for n in range(6, 6 + 3 * count, 3)
    )
    if body[0] != 8 or count not in {1, 3}:
        raise CorruptFrameError(
            f"the JPEG frame header lists {count} component(s) of {body[0]} bits; expected 1 or 3 "
            "components of 8 bits"
        )
    if len(body) != 6 + 3 * count:
        raise CorruptFrameError(
            f"the JPEG frame header is {len(body)} bytes long, not {6 + 3 * count}"
        )
    if any(not 1 <= factor <= 4 for c in components for factor in (c.horizontal, c.vertical)):
        raise CorruptFrameError("a sampling factor is not between 1 and 4")
    return {"width": width, "height": height, "components": components}


def _selected(body: bytes, components: tuple[Component, ...]) -> tuple[tuple[int, int], ...]:
    """Return the table numbers of each component in a scan, or () if it lacks some components."""
    count = body[0] if body else 0
    if len(body) != 4 + 2 * count or body[-3:] != b"\x00\x3f\x00":
        raise CorruptFrameError("the header of the scan is damaged")
    numbers = [body[n] for n in range(1, 1 + 2 * count, 2)]
    if numbers != [c.number for c in components][:count]:
        if count < len(components) and set(numbers) <= {c.number for c in components}:
            return ()
        raise CorruptFrameError("the scan names components that the image does not have")
    return tuple((body[n] >> 4, body[n] & 15) for n in range(2, 2 + 2 * count, 2))


def _end_of_image(data: bytes, position: int) -> int:
    """Find the end of the entropy-coded segment, and check the marker and the bytes after it."""
    for match in _MARKER.finditer(data, position):
        marker = data[match.start() + 1]
        if marker in _RESTARTS:
            continue
        if marker == _END:
            rest = data[match.end() :].strip(PADDING)
            if rest:
                raise CorruptFrameError(f"{len(rest)} bytes follow the end of the image")
            return match.start()
        if match.start() >= len(data) - 2 and marker == 0xFF:
            break
        raise CorruptFrameError(f"unexpected marker 0x{marker:02X} in the compressed pixels")
    raise TruncatedFrameError(f"the JPEG has no end marker after {len(data)} bytes")


def _last_marker(data: bytes, position: int) -> int:
    """Find the end of the image in a file with several scans."""
    end = len(data.rstrip(PADDING)) - 2
    if end < position or data[end : end + 2] != bytes([0xFF, _END]):
        raise TruncatedFrameError(f"the JPEG has no end marker after {len(data)} bytes")
    return end


def _intervals(
    data: bytes, structure: Structure, units: int
) -> list[tuple[NDArray[np.uint8], int]]:
    """Return the bytes of each restart interval, without stuffing, and its number of MCUs."""
    segment = data[structure.data_start : structure.data_end]
    cuts = [match.start() for match in _MARKER.finditer(segment)]
    interval = structure.interval or units
    expected = -(-units // interval)
    if len(cuts) != expected - 1:
        raise CorruptFrameError(f"{len(cuts)} restart markers, not {expected - 1}")
    if any(segment[cut + 1] != 0xD0 + n % 8 for n, cut in enumerate(cuts)):
        raise CorruptFrameError("the restart markers are out of order")
    starts, ends = [0, *(cut + 2 for cut in cuts)], [*cuts, len(segment)]
    return [
        (
            np.frombuffer(segment[start:end].replace(b"\xff\x00", b"\xff"), np.uint8),
            min(interval, units - n * interval),
        )
        for n, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


_FAST_BITS: Final = 11
"""Index bits of the small lookup table, which fits into the L1 cache. For nearly all coefficients
in the files of the catalog, code and value together have at most this many bits."""


@lru_cache(maxsize=16)
def _lookups(tables: tuple[bytes, ...]) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
    """Return the small and the full lookup table of each Huffman table, stacked."""
    stacks = np.stack([_fast_lookup(t) for t in tables]), np.stack([_lookup(t) for t in tables])
    for stack in stacks:
        stack.flags.writeable = False  # threads share the cached arrays
    return stacks


@lru_cache(maxsize=64)
def _lookup(table: bytes) -> NDArray[np.uint16]:
    """Build a table indexed by the next 16 bits: code length << 8 | symbol, or 0 for no code.

    Raises
    ------
    CorruptFrameError
        If the lengths do not form a prefix code.
    """
    lookup = np.zeros(1 << 16, np.uint16)
    position, symbol = 0, 16
    for length in range(1, 17):
        width = 1 << (16 - length)
        for _ in range(table[length - 1]):
            if position + width > 1 << 16:
                raise CorruptFrameError("a Huffman table is damaged")
            lookup[position : position + width] = length << 8 | table[symbol]
            position += width
            symbol += 1
    lookup.flags.writeable = False
    return lookup


def _fast_lookup(table: bytes) -> NDArray[np.int32]:
    """Build a table of complete coefficients, indexed by the next 11 bits.

    An entry is value << 16 | run << 8 | number of bits of code and value. The entry is 0 if the
    bits do not contain a complete coefficient, or if the symbol must be checked. `_lookup` decodes
    these cases.
    """
    bits = np.arange(1 << _FAST_BITS)
    entry = _lookup(table)[bits << (16 - _FAST_BITS)].astype(np.int64)
    length, run, extra = entry >> 8, entry >> 4 & 15, entry & 15
    known = (length > 0) & (length + extra <= _FAST_BITS) & (extra <= 10)
    known &= (extra > 0) | (run == 0) | (run == 15)
    value = bits >> np.maximum(_FAST_BITS - length - extra, 0) & ((1 << extra) - 1)
    value -= np.where(value < (1 << extra) >> 1, (1 << extra) - 1, 0)
    return np.where(known, value * (1 << 16) | run << 8 | length + extra, 0).astype(np.int32)


@njit(nogil=True, cache=True, error_model="numpy")
def _decode(  # noqa: C901, PLR0911, PLR0912, PLR0915 one loop, so that the bit reader stays in registers
    stream: Any, where: Any, sampling: Any, tables: Any, found: Any
) -> int:
    """Decode one restart interval into block statistics. Return 0 or an error code."""
    columns, first, count = where
    fast_lookups, lookups, steps = tables
    mean, energy = found
    previous = np.zeros(sampling.shape[0], np.int64)
    held = np.uint64(0)
    bits = np.int64(0)
    at = np.int64(0)
    size = np.int64(stream.size)
    for unit in range(first, first + count):
        row, column = unit // columns, unit % columns
        for part in range(sampling.shape[0]):
            wide, high = sampling[part]
            scale = steps[part]
            for block in range(wide * high):
                k = np.int64(0)
                largest = np.int64(0)
                pair = 2 * part
                while k < 64:
                    if bits < 32:  # a coefficient takes at most 27 bits
                        word = np.uint64(0)
                        for n in range(
                            at, at + 4
                        ):  # past the end, append 1 bits, as in the padding
                            byte = np.uint64(stream[n]) if n < size else np.uint64(255)
                            word = (word << np.uint64(8)) | byte
                        held = (held << np.uint64(32)) | word
                        at += 4
                        bits += 32
                    peek = np.int64(held >> np.uint64(bits - _FAST_BITS)) & ((1 << _FAST_BITS) - 1)
                    entry = np.int64(fast_lookups[pair, peek])
                    if entry != 0:
                        bits -= entry & 255
                        run = (entry >> 8) & 255
                        value = entry >> 16
                        if k == 0:
                            if run:
                                return _BAD_CODE
                        elif value == 0 and run == 0:
                            break
                    else:
                        peek = np.int64(held >> np.uint64(bits - 16)) & 0xFFFF
                        entry = np.int64(lookups[pair, peek])
                        if entry == 0:
                            return _SHORT if at - bits // 8 > size else _BAD_CODE
                        bits -= entry >> 8
                        run, extra = (entry & 255) >> 4, entry & 15
                        if k == 0:
                            if run or extra > 11:
                                return _BAD_CODE
                        elif extra == 0:
                            if run == 0:
                                break
                            if run != 15:
                                return _BAD_CODE
                        elif extra > 10:
                            return _BAD_CODE
                        value = np.int64(0)
                        if extra:
                            bits -= extra
                            value = np.int64(held >> np.uint64(bits)) & ((1 << extra) - 1)
                            if value < 1 << (extra - 1):
                                value -= (1 << extra) - 1
                    k += run
                    if k > 63:
                        return _BAD_RUN
                    if k == 0:
                        previous[part] += value
                        pair += 1
                    else:
                        largest = max(largest, abs(value * np.int64(scale[k])))
                    k += 1
                p, q = row * high + block // wide, column * wide + block % wide
                mean[part, p, q] = previous[part] * scale[0]
                energy[part, p, q] = largest
        if at - bits // 8 > size:
            return _SHORT
    left = 8 * size - (8 * at - bits)
    if left < 0:
        return _SHORT
    return _LONG if left >= 8 else _OK
