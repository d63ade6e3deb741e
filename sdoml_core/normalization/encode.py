"""Encode normalized frames for shards, with the quantization steps that the constants define."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sdoml_core.formats.compact import encode_compact
from sdoml_core.formats.encoding import CompactEncoding, EncodedFrame, Encoding, encode_npy
from sdoml_core.normalization.constants import Normalization
from sdoml_core.normalization.noise import steps_of


class FrameEncoder:
    """Encodes the frames of one dataset. It is thread-safe and releases the GIL while compressing.

    Parameters
    ----------
    encoding
        ``npy``, ``compact`` or ``compact-fine``.
    normalization
        Constants with which the frames are normalized.
    """

    def __init__(self, encoding: Encoding, normalization: Normalization) -> None:
        self.compact: CompactEncoding | None = None if encoding == "npy" else encoding
        self.normalization = normalization
        self._steps = cache(self._steps_of)

    def __call__(
        self, channel: str, pixels: NDArray[np.float32] | NDArray[np.float16]
    ) -> EncodedFrame:
        """Encode the normalized pixels of a channel, shape (n, n).

        Raises
        ------
        NormalizationError
            If the normalization has no constant for the channel.
        """
        if self.compact is None:
            return encode_npy(pixels)
        return encode_compact(pixels, self._steps(channel), self.compact)

    def step(self, channel: str) -> float | None:
        """Return the quantization step of a channel; None for npy.

        Raises
        ------
        NormalizationError
            If the normalization has no constant for the channel.
        """
        return None if self.compact is None else 1 / self._steps(channel)

    def _steps_of(self, channel: str) -> int:
        assert self.compact is not None  # noqa: S101 for the type checker
        return steps_of(channel, self.compact, self.normalization)
