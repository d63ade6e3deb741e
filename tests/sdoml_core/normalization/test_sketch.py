import math
import random
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sdoml_core.errors import CorruptFrameError, DamagedFileError, NormalizationError
from sdoml_core.formats import sketch_file
from sdoml_core.formats.sketch_file import decode_sketches, encode_sketches
from sdoml_core.frames.aia import process_aia
from sdoml_core.normalization.sketch import (
    BINS,
    QUANTILE_TOLERANCE,
    Sketch,
    merge,
    merge_channels,
)
from tests.support.real_frames import REAL_FRAMES
from tests.support.real_frames import real_frame as decoded_frame

REAL_193 = (
    Path(__file__).parents[3] / "sdoml_demo/data/AIA20180820_1248_0193.fits"
)  # read only the pixels, because the header has illegal cards

TINY = float(np.finfo(np.float32).tiny)
pixel_values = st.floats(0, 2.0**100, width=32, allow_subnormal=True)
frames = arrays(np.float32, (4, 4), elements=pixel_values)


def encoded(sketch: Sketch) -> bytes:
    return encode_sketches({"AIA_0193": sketch})


@pytest.fixture(scope="module")
def real_frame() -> NDArray[np.float32]:
    """The real 193 Å frame in DN/s, with negative pixels set to zero as in processing."""
    from astropy.io import fits

    with fits.open(REAL_193) as file:
        image = np.asarray(file[1].data, np.float32)
    return np.maximum(np.nan_to_num(image), 0) / np.float32(2.9)


def heavy_tails() -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    shape = (300, 300)
    return {
        "lognormal over twenty octaves": rng.lognormal(2, 4, shape),
        "Pareto with an infinite variance": rng.pareto(1.1, shape) + 1,
        "half of it zero": np.where(rng.random(shape) < 0.5, 0, rng.gamma(2, 50, shape)),
        "flat": np.full(shape, 1.0078),
        "two values": rng.choice([1.0, 1.007], shape),
        "uniform in [0, 1], as HMI": rng.random(shape),
        "one hot pixel": np.concatenate([np.full(89_999, 40.0), [3.1e6]]).reshape(shape),
    }


@pytest.mark.parametrize("name", heavy_tails())
@pytest.mark.parametrize("q", [0, 1e-4, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1 - 1e-6, 1])
def test_quantiles_of_heavy_tails_are_within_the_tolerance(name: str, q: float) -> None:
    frame = heavy_tails()[name].astype(np.float32)
    exact = float(np.quantile(frame.astype(np.float64), q))
    assert Sketch.of(frame).quantile(q) == pytest.approx(exact, rel=QUANTILE_TOLERANCE, abs=0)


@pytest.mark.parametrize("name", REAL_FRAMES)
@pytest.mark.slow
def test_quantiles_of_real_frames_are_within_the_tolerance(name: str) -> None:
    frame = process_aia(decoded_frame(name), resolution=512, degradation=0.8)
    sketch = Sketch.of(frame)
    for q in np.concatenate([np.linspace(0, 1, 201), [0.999, 0.9999, 0.99999]]).tolist():
        exact = float(np.quantile(frame.astype(np.float64), q))
        assert sketch.quantile(q) == pytest.approx(exact, rel=QUANTILE_TOLERANCE, abs=0)


@given(frames, st.floats(0, 1))
def test_arbitrary_pixels_have_quantiles_within_the_tolerance(
    frame: NDArray[np.float32], q: float
) -> None:
    exact = float(np.quantile(frame.astype(np.float64), q))
    estimate = Sketch.of(frame).quantile(q)
    # Below the smallest normal float32, all bins have the same width of 2^-133.
    assert estimate == pytest.approx(exact, rel=QUANTILE_TOLERANCE, abs=TINY * 2.0**-7)
    assert frame.min() <= estimate <= frame.max()


@given(st.lists(frames, min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_merge_order_and_grouping_do_not_change_the_bytes(
    stack: list[NDArray[np.float32]], shuffler: random.Random
) -> None:
    expected = encoded(merge(Sketch.of(frame) for frame in stack))
    parts = [Sketch.of(frame) for frame in stack]
    shuffler.shuffle(parts)
    while len(parts) > 1:
        second, first = parts.pop(shuffler.randrange(len(parts))), parts.pop(0)
        parts.insert(shuffler.randrange(len(parts) + 1), first + second)
    assert encoded(parts[0]) == expected


@given(st.lists(frames, min_size=1, max_size=4))
@settings(deadline=None)
def test_merging_stored_sketches_matches_merging_new_ones(
    stack: list[NDArray[np.float32]],
) -> None:
    files = [encoded(Sketch.of(frame)) for frame in stack]
    merged = merge_channels(decode_sketches(file) for file in files)
    assert encode_sketches(merged) == encoded(merge(Sketch.of(frame) for frame in stack))


def test_sums_are_exact_in_any_order() -> None:
    sizes = [1e20, 1.0, 1e-3, 3e7]  # in float64, 1e20 + 1 is 1e20
    parts = [Sketch.of(np.full((2, 2), size, np.float32)) for size in sizes]
    results = {encoded(merge(order)) for order in permutations(parts)}
    assert len(results) == 1
    assert merge(parts).total - parts[0].total > 0


def test_adding_frames_is_equivalent_to_merging_sketches(real_frame: NDArray[np.float32]) -> None:
    sketch = Sketch()
    sketch.add(real_frame)
    sketch.add(real_frame[:512])
    assert encoded(sketch) == encoded(Sketch.of(real_frame) + Sketch.of(real_frame[:512]))


def test_merging_an_empty_sketch_changes_nothing(real_frame: NDArray[np.float32]) -> None:
    sketch = Sketch.of(real_frame)
    assert encoded(sketch + Sketch()) == encoded(sketch) == encoded(Sketch() + sketch)
    assert encoded(merge([])) == encoded(Sketch())


def test_moments_and_extremes_match_the_pixels(real_frame: NDArray[np.float32]) -> None:
    sketch = Sketch.of(real_frame)
    exact = real_frame.astype(np.float64)
    assert sketch.pixels == exact.size
    assert sketch.zeros == np.count_nonzero(exact == 0)
    assert (sketch.minimum, sketch.maximum) == (exact.min(), exact.max())
    assert sketch.mean == pytest.approx(exact.mean(), rel=1e-12)
    assert sketch.std == pytest.approx(exact.std(), rel=1e-10)
    assert int(sketch.counts.sum()) + sketch.zeros == exact.size


def test_tiny_variance_around_a_large_mean_is_exact() -> None:
    frame = np.array([[16_777_215, 16_777_214]], np.float32)
    assert Sketch.of(frame).std == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("value", [0.5, 37.0, 1e3, 1e9, 0.0, -1.0])
def test_fraction_above_a_value_is_interpolated(
    real_frame: NDArray[np.float32], value: float
) -> None:
    exact = np.count_nonzero(real_frame > value) / real_frame.size
    assert Sketch.of(real_frame).fraction_above(value) == pytest.approx(exact, abs=2e-4)


def test_no_pixel_is_above_the_maximum(real_frame: NDArray[np.float32]) -> None:
    assert Sketch.of(real_frame).fraction_above(float(real_frame.max())) == 0


@pytest.mark.parametrize("bad", [-1e-30, -1.0, np.inf, -np.inf, np.nan])
def test_invalid_pixels_are_rejected(bad: float) -> None:
    frame = np.ones((8, 8), np.float32)
    frame[3, 4] = bad
    with pytest.raises(CorruptFrameError, match="1 pixels"):
        Sketch.of(frame)


def test_negative_zero_counts_as_zero_and_the_largest_float_has_a_bin() -> None:
    frame = np.array([[-0.0, 0.0], [np.finfo(np.float32).max, 1e-45]], np.float32)
    sketch = Sketch.of(frame)
    assert (sketch.zeros, sketch.minimum) == (2, 0.0)
    assert sketch.bins.tolist() == [0, BINS - 1]
    assert math.copysign(1, sketch.minimum) == 1


def test_sketch_rejects_dtypes_other_than_float32() -> None:
    with pytest.raises(TypeError, match="float64"):
        Sketch.of(np.ones((2, 2)))  # type: ignore[arg-type]


def test_memory_layout_does_not_change_the_sketch(real_frame: NDArray[np.float32]) -> None:
    expected = encoded(Sketch.of(np.ascontiguousarray(real_frame[::-1, ::2])))
    read_only = np.ascontiguousarray(real_frame[::-1, ::2])
    read_only.flags.writeable = False
    assert encoded(Sketch.of(real_frame[::-1, ::2])) == expected
    assert encoded(Sketch.of(read_only)) == expected


def test_counting_a_frame_leaves_it_writable() -> None:
    frame = np.ones((2, 2), np.float32)
    Sketch.of(frame)
    frame[0, 0] = 2


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
def test_empty_frame_is_rejected(shape: tuple[int, ...]) -> None:
    assert encoded(Sketch.of(np.empty(shape, np.float32))) == encoded(Sketch())


def test_empty_sketch_has_no_statistics() -> None:
    for ask in (lambda: Sketch().mean, lambda: Sketch().std, lambda: Sketch().quantile(0.5)):
        with pytest.raises(NormalizationError):
            ask()


@pytest.mark.parametrize("q", [-0.1, 1.1, math.nan])
def test_quantile_outside_0_to_1_is_rejected(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Sketch.of(np.ones((2, 2), np.float32)).quantile(q)


@pytest.fixture(scope="module")
def stored(real_frame: NDArray[np.float32]) -> bytes:
    small = real_frame[400:464, 400:464]
    return encode_sketches(
        {
            "HMI_M": Sketch.of(small / small.max()),
            "AIA_0193": Sketch.of(small),
            "AIA_1700": Sketch(),
        }
    )


def test_file_round_trips_every_field(real_frame: NDArray[np.float32]) -> None:
    sketch = Sketch.of(real_frame)
    (restored,) = decode_sketches(encoded(sketch)).values()
    for name in ("frames", "pixels", "zeros", "minimum", "maximum", "total", "squares"):
        assert getattr(restored, name) == getattr(sketch, name)
    assert np.array_equal(restored.bins, sketch.bins)
    assert np.array_equal(restored.counts, sketch.counts)


def test_file_lists_channels_by_name(stored: bytes) -> None:
    assert list(decode_sketches(stored)) == ["AIA_0193", "AIA_1700", "HMI_M"]
    assert encode_sketches(decode_sketches(stored)) == stored
    assert decode_sketches(encode_sketches({})) == {}


def test_file_can_be_read_with_plain_arrow(stored: bytes) -> None:
    table = pa.ipc.open_file(stored).read_all()
    assert table.column("pixels").to_pylist() == [64 * 64, 0, 64 * 64]


def test_truncated_sketch_file_is_rejected(stored: bytes) -> None:
    for end in range(0, len(stored), 97):
        with pytest.raises(DamagedFileError):
            decode_sketches(stored[:end])


def test_mutated_sketch_file_is_detected(stored: bytes) -> None:
    rng = random.Random(20)
    refused = 0
    for _ in range(4_000):
        mutated = bytearray(stored)
        for _ in range(rng.choice([1, 1, 1, 4, 40])):
            mutated[rng.randrange(len(mutated))] = rng.choice(
                [0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)]
            )
        try:
            restored = decode_sketches(bytes(mutated))
        except DamagedFileError:
            refused += 1
        else:  # the byte is padding, or Arrow ignores its value
            assert encode_sketches(restored) == stored
    assert refused > 2_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": 17}, "add up"),
        ({"zeros": -1, "pixels": 15}, "not positive"),
        ({"bins": np.array([5, 5], np.uint16)}, "ascend"),
        ({"bins": np.array([5, BINS], np.uint16)}, "do not match"),
        ({"counts": np.array([17, -1], np.int64)}, "not positive"),
        ({"counts": np.array([16], np.int64)}, "do not match"),
        ({"total": -1}, "sums"),
    ],
)
def test_inconsistent_sketch_is_rejected(change: dict[str, object], message: str) -> None:
    sketch = Sketch.of(np.array([1, 1, 1, 1, 2, 2, 2, 2] * 2, np.float32))
    for name, value in change.items():
        setattr(sketch, name, value)
    with pytest.raises(DamagedFileError, match=message):
        decode_sketches(encoded(sketch))


@pytest.mark.parametrize("rows", [[1, 0, 2], [0, 1, 2, 2]])
def test_unsorted_or_duplicate_channels_are_rejected(stored: bytes, rows: list[int]) -> None:
    table = pa.ipc.open_file(stored).read_all()
    batch = table.take(pa.array(rows)).combine_chunks().to_batches()[0]
    checksum = {b"crc32": sketch_file._Rows.of(batch).checksum()}
    sink = pa.BufferOutputStream()
    schema = table.schema.with_metadata(table.schema.metadata | checksum)
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(batch.cast(schema))
    with pytest.raises(DamagedFileError, match="must be sorted and unique"):
        decode_sketches(bytes(sink.getvalue()))


def test_arrow_file_without_a_version_is_rejected() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, pa.schema([("x", pa.int8())])) as writer:
        writer.write_batch(pa.record_batch([pa.array([1], pa.int8())], names=["x"]))
    with pytest.raises(DamagedFileError, match="version"):
        decode_sketches(bytes(sink.getvalue()))


def test_fraction_above_is_1_below_the_minimum_and_0_above_the_maximum() -> None:
    sketch = Sketch.of(np.full((8, 8), 1.004, np.float32))
    assert sketch.fraction_above(1.002) == 1.0
    assert sketch.fraction_above(1.003) == 1.0
    assert sketch.fraction_above(1.0041) == 0.0


def test_value_that_float32_rounds_up_to_the_maximum_is_below_it() -> None:
    sketch = Sketch.of(np.array([1, 2, 2, 2], np.float32))
    assert sketch.fraction_above(1.99) == 0.75
    assert sketch.fraction_above(2 - 1e-9) == 0.75
    assert sketch.fraction_above(2) == 0


def test_pixels_are_interpolated_within_a_bin() -> None:
    # All pixels are in the bin from 1 to 1 + 2^-7.
    sketch = Sketch.of(np.linspace(1, 1.007, 101).astype(np.float32))
    assert sketch.fraction_above(1.0035) == pytest.approx(0.5, abs=0.01)
    assert sketch.fraction_above(1.00525) == pytest.approx(0.25, abs=0.01)
