"""RICE_1 decompression of image rows, without the GIL.

The format is defined in the FITS standard 4.0, section 10.4.1 (R. White's code). A row starts with
its first pixel, followed by blocks of pixel differences. Each block starts with a code of 4 bits
(16-bit pixels) or 5 bits (32-bit pixels). Code 0 means that all differences are zero, and the
highest code means that they are stored verbatim. Any other code is k + 1, where k is the number of
low bits that follow each unary-coded high part. Differences are folded to unsigned numbers: 0, −1,
1, −2, …

The input is untrusted. Reads stay within the buffer and writes within the row. An invalid or
truncated stream is reported as an error.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_ONE = np.uint64(1)
_WORD = np.uint64(64)  # bits in the window
_SURE = np.uint64(56)  # bits in the window after a refill

OK = 0
STREAM_ENDS_EARLY = 1
BAD_CODE = 2
BYTES_LEFT_OVER = 3
PROBLEMS = {
    STREAM_ENDS_EARLY: "ends early",
    BAD_CODE: "has an undefined code",
    BYTES_LEFT_OVER: "continues after the last pixel",
}
"""Description of each status other than OK."""


@intrinsic
def _leading_zeros(typingctx: Any, word: Any) -> Any:  # noqa: ARG001 - numba passes it
    """Count the leading zero bits of a 64-bit word. Return 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def load_word(typingctx: Any, stream: Any, position: Any) -> Any:  # noqa: ARG001
    """Load eight bytes as a big-endian word. The caller must check the bounds."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.gep(array.data, [args[1]])
        word = ir.IntType(64)
        value = builder.load(builder.bitcast(address, word.as_pointer()), align=1)
        return builder.bswap(value) if sys.byteorder == "little" else value

    return types.uint64(stream, types.uint64), generate


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _load(stream: Any, position: Any) -> Any:
    """Load eight bytes at a position as a big-endian word. Bytes past the end are 0."""
    size = np.uint64(stream.size)
    if position + np.uint64(8) <= size:
        return load_word(stream, position)  # type: ignore[call-arg]
    word = np.uint64(0)
    for i in range(8):
        at = position + np.uint64(i)
        word = (word << np.uint64(8)) | (np.uint64(stream[at]) if at < size else np.uint64(0))
    return word


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _pour(word: Any, window: Any, held: Any, position: Any) -> Any:
    """Append the next word to the window. The window then contains at least 56 bits."""
    window |= word >> held
    position += (np.uint64(63) - held) >> np.uint64(3)
    return window, held | _SURE, position


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _refill(stream: Any, window: Any, held: Any, position: Any) -> Any:
    """Refill the window to at least 56 bits. Bits already in the window stay in front."""
    return _pour(_load(stream, position), window, held, position)


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _is_beyond(held: Any, position: Any, end: Any) -> Any:
    """Return whether bits past the end of the tile were consumed."""
    return position * np.uint64(8) > end * np.uint64(8) + held


@njit(nogil=True, cache=True, error_model="numpy")
def _skip_zeros(stream: Any, window: Any, held: Any, position: Any, end: Any) -> Any:
    """Move the end of a unary part to the top of the window. Also return the length of the part."""
    zeros = np.uint64(0)
    leading: Any = _leading_zeros(window)  # type: ignore[call-arg]
    while leading >= held and position <= end:
        zeros += held
        window = _load(stream, position)
        position += np.uint64(7)
        held = _SURE
        leading = _leading_zeros(window)
    if leading >= held:
        return window, held, end + _WORD, zeros  # reading past the end, which the caller detects
    window, held, position = _refill(stream, window << leading, held - leading, position)
    return window, held, position, zeros + leading


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _unfold(folded: Any) -> Any:
    """Convert a folded difference back to a signed difference, modulo 2³²."""
    return (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _take(window: Any, code: Any) -> Any:
    """Return the next folded difference plus 2^(code - 1), the new window, and the bits used.

    The result is undefined if the window does not contain all of its bits.
    """
    zeros: Any = _leading_zeros(window)  # type: ignore[call-arg]
    window <<= zeros & np.uint64(63)
    return (zeros << (code - _ONE)) + (window >> (_WORD - code)), window << code, zeros + code


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _fill_block(stream: Any, state: Any, block: Any, end: Any, row: Any) -> Any:
    """Decode a block whose differences have code - 1 low bits, and return the new state.

    A block is given by its code, start and stop in the row. Four pixels are decoded per refill if
    the window contains all of them, which is nearly always the case. The single 1 bit that ends a
    unary part stays in front of the low bits. Its value, `one`, is subtracted from the sum.
    """
    window, held, position, last = state
    code, start, stop = block
    one = _ONE << (code - _ONE)
    i, stop = np.uint64(start), np.uint64(stop)  # unsigned, so that an index is never negative
    # Each refill advances the position by at most 7 bytes, so 8 bytes per pixel are enough.
    # This does not hold after a long unary part.
    furthest = position + (stop - i) * np.uint64(8)
    together = code <= np.uint64(11) and furthest <= np.uint64(stream.size)
    while i < stop:
        if together and i + np.uint64(4) <= stop:
            word: Any = load_word(stream, position)  # type: ignore[call-arg]
            window, held, position = _pour(word, window, held, position)
            a, after, bits_a = _take(window, code)
            b, after, bits_b = _take(after, code)
            c, after, bits_c = _take(after, code)
            d, after, bits_d = _take(after, code)
            bits = bits_a + bits_b + bits_c + bits_d
            if bits <= _SURE:
                window = after
                held -= bits
                first = np.uint32(last + _unfold(np.uint32(a - one)))
                second = np.uint32(first + _unfold(np.uint32(b - one)))
                third = np.uint32(second + _unfold(np.uint32(c - one)))
                last = np.uint32(third + _unfold(np.uint32(d - one)))
                row[i] = np.int32(first)
                row[i + np.uint64(1)] = np.int32(second)
                row[i + np.uint64(2)] = np.int32(third)
                row[i + np.uint64(3)] = np.int32(last)
                i += np.uint64(4)
                continue
        window, held, position = _refill(stream, window, held, position)
        folded, after, bits = _take(window, code)
        if bits <= _SURE:
            window = after
            held -= bits
        else:
            window, held, position, zeros = _skip_zeros(stream, window, held, position, end)
            together = False
            folded = (zeros << (code - _ONE)) + (window >> (_WORD - code))
            window <<= code
            held -= code
        last = np.uint32(last + _unfold(np.uint32(folded - one)))
        row[i] = np.int32(last)
        i += np.uint64(1)
    return window, held, position, last


@njit(nogil=True, cache=True, error_model="numpy")
def decode_row(  # noqa: C901
    stream: Any, tile: Any, block: int, bytepix: int, row: Any
) -> int:
    """Decompress one tile into a row of pixels.

    Parameters
    ----------
    stream
        uint8 (bytes,): the whole file or heap.
    tile
        Start and stop of the tile: 0 <= start <= stop <= stream.size.
    block
        Pixels per block (BLOCKSIZE), above 0.
    bytepix
        2 or 4, bytes per pixel before compression (BYTEPIX).
    row
        int32 (width,), C-contiguous. Filled in place.

    Returns
    -------
    `OK`, or a status from `PROBLEMS`. Unless the status is `OK`, the content of the row is
    undefined.
    """
    code_bits = np.uint64(5 if bytepix == 4 else 4)
    verbatim = np.uint64(26 if bytepix == 4 else 15)
    pixel_bits = np.uint64(8 * bytepix)
    end = np.uint64(tile[1])
    if tile[1] - tile[0] < bytepix:
        return STREAM_ENDS_EARLY

    # `window` has the next bits at its top; `held` is the number of valid bits
    position = np.uint64(tile[0])
    last = np.uint32(_load(stream, position) >> (_WORD - pixel_bits))
    position += np.uint64(bytepix)
    window = np.uint64(0)
    held = np.uint64(0)
    first = 0
    while first < row.size:
        limit = min(first + block, row.size)
        window, held, position = _refill(stream, window, held, position)
        code = window >> (_WORD - code_bits)
        window <<= code_bits
        held -= code_bits
        if code > verbatim:
            return STREAM_ENDS_EARLY if _is_beyond(held, position, end) else BAD_CODE
        if code == 0:
            for i in range(first, limit):
                row[i] = np.int32(last)
        elif code == verbatim:
            for i in range(first, limit):
                window, held, position = _refill(stream, window, held, position)
                last = np.uint32(last + _unfold(np.uint32(window >> (_WORD - pixel_bits))))
                window <<= pixel_bits
                held -= pixel_bits
                row[i] = np.int32(last)
        else:
            state = window, held, position, last
            block_at = code, first, limit
            window, held, position, last = _fill_block(stream, state, block_at, end, row)
        if _is_beyond(held, position, end):
            return STREAM_ENDS_EARLY
        first = limit
    if position * np.uint64(8) + np.uint64(8) <= end * np.uint64(8) + held:
        return BYTES_LEFT_OVER
    if bytepix == 2:
        for i in range(row.size):
            row[i] = np.int16(row[i])
    return OK


@njit(nogil=True, cache=True, error_model="numpy")
def decode_image(
    stream: Any,
    tiles: Any,
    coding: tuple[int, int],
    scaling: tuple[float, float, int],
    out: Any,
) -> tuple[int, int, int]:
    """Decompress all rows of an image and scale them to physical values.

    Parameters
    ----------
    stream
        uint8 (bytes,).
    tiles
        int64 (rows, 2): start and stop of the tile of each row in the stream.
    coding
        BLOCKSIZE and BYTEPIX, as for `decode_row`.
    scaling
        BSCALE, BZERO and BLANK. The value is BSCALE · pixel + BZERO, or NaN for BLANK pixels. For
        an image without BLANK pixels, BLANK must be outside the range of int32.
    out
        float32 (rows, width). Filled in place.

    Returns
    -------
    Status, number of the row in which it occurred, and number of NaN pixels.
    """
    block, bytepix = coding
    scale, zero, blank = scaling
    marker = np.int32(blank)  # the loop over a row is vectorized if all values have the same width
    marked = np.int32(marker == blank)
    rows, width = out.shape
    pixels = np.empty(width, np.int32)
    missing = 0
    for r in range(rows):
        status = decode_row(stream, tiles[r], block, bytepix, pixels)
        if status != OK:
            return status, r, missing
        absent_here: Any = np.int32(0)
        for c in range(width):
            pixel = pixels[c]
            absent = np.int32(pixel == marker) & marked
            absent_here += absent
            out[r, c] = np.float32(np.nan) if absent else np.float32(scale * pixel + zero)
        missing += absent_here
    return OK, rows, missing
