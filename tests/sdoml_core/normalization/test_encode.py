"""Compact encodings of the real frames are small, accurate to half a step, and unbiased."""

import math
from datetime import date
from functools import cache

import numpy as np
import pytest

from sdoml_core.errors import NormalizationError
from sdoml_core.formats.compact import decode_compact
from sdoml_core.frames.aia import process_aia
from sdoml_core.normalization.encode import FrameEncoder
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import normalize
from tests.support.real_frames import REAL_FRAMES, real_frame

SIDE = 512
FLOAT32_BYTES = SIDE * SIDE * 4


@cache
def encoded(encoding):
    """Each real frame's name, normalized pixels, decoded pixels, step and member size."""
    results = []
    for name in REAL_FRAMES:
        frame = real_frame(name)
        channel = f"AIA_{frame.wavelength:04d}"
        pixels = process_aia(frame, resolution=SIDE, degradation=1.0)
        day = date(2014, 1, 1)
        constants = fit(
            {channel: Sketch.of(pixels)},
            method="quantile:0.9999",
            resolution=SIDE,
            first_day=day,
            last_day=day,
            days=1,
        )
        y = normalize(pixels, constants.constant(channel), np.empty_like(pixels))
        made = FrameEncoder(encoding, constants)(channel, y)
        out = decode_compact(made.data, made.step, np.empty_like(y))
        results.append((name, y, out, made.step, made.size))
    return results


@pytest.mark.parametrize(("encoding", "factor"), [("compact", 5), ("compact-fine", 4)])
def test_compact_real_frames_are_several_times_smaller(encoding, factor):
    for name, *_, size in encoded(encoding):
        assert factor * size <= FLOAT32_BYTES, name


@pytest.mark.parametrize("encoding", ["compact", "compact-fine"])
def test_errors_are_at_most_half_a_step_and_regional_means_are_unbiased(encoding):
    rows, columns = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disk = np.hypot(rows, columns) < 0.38 * SIDE
    for name, y, out, step, _ in encoded(encoding):
        error = (out.astype(np.float64) - y) / step
        assert np.abs(error).max() <= 0.501, name
        inside = error[disk & (y < 1)]
        means = inside[: len(inside) // 1000 * 1000].reshape(-1, 1000).mean(axis=1)
        expected = 1 / math.sqrt(12 * 1000)
        assert means.std() < 1.5 * expected, name
        assert abs(means.mean()) < 5 * expected / math.sqrt(len(means)), name


def test_channels_without_a_constant_are_rejected():
    constants = fit({}, method="max", resolution=SIDE, first_day=date(2014, 1, 1),
                    last_day=date(2014, 1, 1), days=1)  # fmt: skip
    with pytest.raises(NormalizationError, match="AIA_0171 was not included"):
        FrameEncoder("compact", constants)("AIA_0171", np.zeros((16, 16), np.float32))
