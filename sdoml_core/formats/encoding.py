"""Names of the frame encodings in shards, and the class of an encoded frame.

``npy`` stores float32 or float16 arrays. The compact encodings store integers on the normalized
scale in FITS files with RICE_1 compression (`sdoml_core.formats.compact`). They differ only in the
quantization step (`sdoml_core.normalization.noise`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:  # slow to import, but settings need only the encoding names
    import numpy as np
    from numpy.typing import NDArray

CompactEncoding = Literal["compact", "compact-fine"]
Encoding = Literal["npy", "compact", "compact-fine"]
ENCODINGS: Final[tuple[Encoding, ...]] = ("npy", "compact", "compact-fine")
COMPACT: Final[tuple[CompactEncoding, ...]] = ("compact", "compact-fine")
DTYPES: Final = ("float32", "float16")
"""Pixel types of npy members."""

COMPACT_DTYPE: Final = "int32"
"""Type of the stored pixels in compact members."""


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """The bytes of one frame, as stored in a shard member."""

    header: bytes
    """Bytes before the data."""
    data: bytes | memoryview
    """Pixels, or the tile table and the compressed tiles."""
    padding: int
    """Zero bytes after the data."""
    crc32: int
    """CRC-32 of the data."""
    dtype: str
    resolution: int
    """Pixels along each side."""
    encoding: CompactEncoding | None = None
    """None for npy."""
    step: float | None = None
    """Quantization step of a compact frame."""

    @property
    def size(self) -> int:
        """Size of the member in bytes."""
        return len(self.header) + len(self.data) + self.padding


def encode_npy(pixels: "NDArray[np.float32] | NDArray[np.float16]") -> EncodedFrame:
    """Encode a square frame of shape (n, n) as an npy file in little-endian order."""
    import numpy as np
    from zlib_ng import zlib_ng

    from sdoml_core.formats.members import npy_header

    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    data = little.data.cast("B")
    name = pixels.dtype.name
    return EncodedFrame(
        npy_header(name, len(pixels)),
        data,
        0,
        zlib_ng.crc32(data),
        name,
        len(pixels),
    )
