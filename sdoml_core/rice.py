"""RICE_1 decompression of image rows, without the GIL.

The format is that of the FITS standard 4.0, section 10.4.1 (R. White's code): a row starts with
its first pixel, then come blocks of pixel differences. Each block opens with a code of 4 (16-bit
pixels) or 5 bits (32-bit): 0 for "all differences are zero", the highest for "verbatim", else
the number k + 1 of low bits that follow each unary-coded high part. Differences are folded to
unsigned numbers: 0, −1, 1, −2, …

Nothing here trusts its input: reads stay within the buffer, writes within the row, and a stream
that breaks the rules or ends early is reported, never guessed at.
"""

import sys
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OK = 0
STREAM_ENDS_EARLY = 1
BAD_CODE = 2
BYTES_LEFT_OVER = 3
PROBLEMS = {
    STREAM_ENDS_EARLY: "ends early",
    BAD_CODE: "has a code that the format lacks",
    BYTES_LEFT_OVER: "goes on after the last pixel",
}
"""What to say of each status but OK."""


@intrinsic
def _leading_zeros(typingctx: Any, word: Any) -> Any:  # noqa: ARG001 - numba passes it
    """Number of zero bits before the first one of a 64-bit word; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:  # noqa: ARG001
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@intrinsic
def load_word(typingctx: Any, stream: Any, position: Any) -> Any:  # noqa: ARG001
    """Eight bytes of a uint8 array as one big-endian word; the caller has checked the bounds."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.gep(array.data, [args[1]])
        word = ir.IntType(64)
        value = builder.load(builder.bitcast(address, word.as_pointer()), align=1)
        return builder.bswap(value) if sys.byteorder == "little" else value

    return types.uint64(stream, types.uint64), generate


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _load(stream: Any, position: Any) -> Any:
    """Eight bytes from a position on, big-endian; zeros beyond the end."""
    size = np.uint64(stream.size)
    if position + np.uint64(8) <= size:
        return load_word(stream, position)  # type: ignore[call-arg]
    word = np.uint64(0)
    for i in range(8):
        at = position + np.uint64(i)
        word = (word << np.uint64(8)) | (np.uint64(stream[at]) if at < size else np.uint64(0))
    return word


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _refill(stream: Any, window: Any, held: Any, position: Any) -> Any:
    """Bring the number of bits held to 56 or more; what was held stays in front."""
    window |= _load(stream, position) >> held
    position += (np.uint64(63) - held) >> np.uint64(3)
    return window, held | np.uint64(56), position


@njit(nogil=True, cache=True, error_model="numpy")
def _skip_zeros(stream: Any, window: Any, held: Any, position: Any, end: Any) -> Any:
    """Pass a unary part that may be longer than the window; also its length."""
    zeros = np.uint64(0)
    leading: Any = _leading_zeros(window)  # type: ignore[call-arg]
    while leading >= held and position <= end:
        zeros += held
        window = _load(stream, position)
        position += np.uint64(7)
        held = np.uint64(56)
        leading = _leading_zeros(window)
    if leading >= held:
        return window, held, end + np.uint64(64), zeros  # beyond the end, for the caller to see
    window <<= leading
    window <<= np.uint64(1)
    held -= leading + np.uint64(1)
    window, held, position = _refill(stream, window, held, position)
    return window, held, position, zeros + leading


@njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _unfold(folded: Any) -> Any:
    """The signed difference that an unsigned number stands for, modulo 2³²."""
    return (folded >> np.uint32(1)) ^ (np.uint32(0) - (folded & np.uint32(1)))


@njit(nogil=True, cache=True, error_model="numpy")
def decode_row(  # noqa: C901, PLR0912 - a bit reader is fast with its state in local variables
    stream: Any, tile: Any, block: int, bytepix: int, row: Any
) -> int:
    """Decompress one tile into a row of pixels.

    Parameters
    ----------
    stream
        uint8 (bytes,), the whole file or heap.
    tile
        Where the tile starts and stops: 0 <= start <= stop <= stream.size.
    block
        Pixels per block (BLOCKSIZE), above 0.
    bytepix
        2 or 4, bytes per pixel before compression (BYTEPIX).
    row
        int32 (width,), C-contiguous, is filled.

    Returns
    -------
    OK, or another status of `PROBLEMS`; unless OK the row's content means nothing.
    """
    code_bits = np.uint64(5 if bytepix == 4 else 4)
    verbatim = np.uint64(26 if bytepix == 4 else 15)
    pixel_bits = np.uint64(8 * bytepix)
    end = np.uint64(tile[1])
    one = np.uint64(1)
    word = np.uint64(64)
    if tile[1] - tile[0] < bytepix:
        return STREAM_ENDS_EARLY

    # `window` has the next bits at its top, `held` says how many of them count
    position = np.uint64(tile[0])
    last = np.uint32(_load(stream, position) >> (word - pixel_bits))
    position += np.uint64(bytepix)
    window = np.uint64(0)
    held = np.uint64(0)
    first = 0
    while first < row.size:
        limit = min(first + block, row.size)
        window, held, position = _refill(stream, window, held, position)
        code = window >> (word - code_bits)
        window <<= code_bits
        held -= code_bits
        if code > verbatim:
            return BAD_CODE
        if code == 0:
            for i in range(first, limit):
                row[i] = np.int32(last)
        elif code == verbatim:
            for i in range(first, limit):
                window, held, position = _refill(stream, window, held, position)
                last = np.uint32(last + _unfold(np.uint32(window >> (word - pixel_bits))))
                window <<= pixel_bits
                held -= pixel_bits
                row[i] = np.int32(last)
        else:
            low_bits = code - one
            spare = word - code
            for i in range(first, limit):
                window, held, position = _refill(stream, window, held, position)
                zeros: Any = _leading_zeros(window)  # type: ignore[call-arg]
                if zeros + code <= np.uint64(56):
                    window <<= zeros + one
                    held -= zeros + one
                else:
                    window, held, position, zeros = _skip_zeros(stream, window, held, position, end)
                low = (window >> one) >> spare  # in two steps: a shift by 64 is undefined
                window <<= low_bits
                held -= low_bits
                last = np.uint32(last + _unfold(np.uint32((zeros << low_bits) | low)))
                row[i] = np.int32(last)
        if position * np.uint64(8) > end * np.uint64(8) + held:
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
        int64 (rows, 2): where each row's tile starts and stops in the stream.
    coding
        BLOCKSIZE and BYTEPIX, as for `decode_row`.
    scaling
        BSCALE, BZERO and BLANK: value = BSCALE · pixel + BZERO, but NaN where the pixel is BLANK
        (beyond the range of int32 where there is none).
    out
        float32 (rows, width), is filled.

    Returns
    -------
    status, number of the row where it arose, number of NaN pixels.
    """
    block, bytepix = coding
    scale, zero, blank = scaling
    rows, width = out.shape
    pixels = np.empty(width, np.int32)
    missing = 0
    for r in range(rows):
        status = decode_row(stream, tiles[r], block, bytepix, pixels)
        if status != OK:
            return status, r, missing
        for c in range(width):
            absent = pixels[c] == blank
            missing += absent
            out[r, c] = np.nan if absent else scale * pixels[c] + zero
    return OK, rows, missing
