import json
import random
import subprocess
import sys
from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from sdoml_core.errors import DamagedFileError, NormalizationError, SettingError
from sdoml_core.frames.aia import process_aia
from sdoml_core.normalization.constants import Normalization, from_json
from sdoml_core.normalization.fit import LISTED_QUANTILES, fit
from sdoml_core.normalization.method import parse_method
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import denormalize, normalize
from tests.support.real_frames import REAL_2014, real_frame

RANGE: dict[str, Any] = {
    "resolution": 512,
    "first_day": date(2022, 11, 1),
    "last_day": date(2023, 10, 31),
    "days": 364,
}


def frame() -> NDArray[np.float32]:
    """Return a frame of integers, whose sums are the same on every machine."""
    return (np.arange(64 * 64, dtype=np.float32) % 1021).reshape(64, 64)


def fitted(method: str = "quantile:0.9999") -> Normalization:
    sketches = {
        "HMI_M": Sketch.of(frame() / 1024),
        "AIA_0193": Sketch.of(frame()),
        "AIA_1700": Sketch(),
    }
    return fit(sketches, method=method, **RANGE)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("max", "max"),
        (" MAX ", "max"),
        ("quantile:0.9999", "quantile:0.9999"),
        ("quantile:.5", "quantile:0.5"),
        ("quantile:1", "max"),
        ("quantile:1e-3", "quantile:0.001"),
    ],
)
def test_methods_have_a_canonical_spelling(text: str, canonical: str) -> None:
    assert str(parse_method(text)) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "maximum", "quantile", "quantile:", "quantile:0", "quantile:1.1", "quantile:-1",
     "quantile:nan", "quantile:1e999", "quantile:1e", "quantile:0.9 9", "0.9999", "quantile:99%"],
)  # fmt: skip
def test_error_for_an_unknown_method_names_the_setting(text: str) -> None:
    with pytest.raises(SettingError, match="normalization") as caught:
        parse_method(text)
    assert "\n" not in str(caught.value)


def test_max_method_uses_the_exact_maximum() -> None:
    statistics = fitted("max").channels["AIA_0193"]
    assert statistics.constant == 1020
    assert statistics.saturated == 0


def test_default_method_uses_the_quantile_of_all_pixels() -> None:
    statistics = fitted("quantile:0.99").channels["AIA_0193"]
    assert statistics.constant == pytest.approx(np.quantile(frame(), 0.99), rel=0.005)
    assert statistics.saturated == pytest.approx(0.01, abs=0.005)


def test_statistics_match_the_pixels() -> None:
    statistics = fitted().channels["AIA_0193"]
    assert (statistics.minimum, statistics.maximum) == (0, 1020)
    assert statistics.pixels == 64 * 64
    assert statistics.mean == pytest.approx(frame().mean(dtype=np.float64))
    assert statistics.quantiles is not None
    assert list(statistics.quantiles) == [str(q) for q in LISTED_QUANTILES]


def test_hmi_levels_do_not_depend_on_the_method() -> None:
    for method in ("max", "quantile:0.5"):
        hmi = fitted(method).channels["HMI_M"]
        assert (hmi.transform, hmi.constant) == ("linear", 1.0)


def test_channel_without_frames_is_an_error_only_when_requested() -> None:
    normalization = fitted()
    assert normalization.channels["AIA_1700"].constant is None
    assert normalization.constant("AIA_0193") == normalization.channels["AIA_0193"].constant > 0
    with pytest.raises(NormalizationError, match="AIA_1700 had no pixels"):
        normalization.constant("AIA_1700")
    with pytest.raises(NormalizationError, match="AIA_0094 was not included"):
        normalization.constant("AIA_0094")


def test_channel_with_only_dark_frames_has_no_constant() -> None:
    dark = Sketch.of(np.zeros((4, 4), np.float32))
    assert fit({"AIA_0094": dark}, method="max", **RANGE).channels["AIA_0094"].constant is None


def test_constant_of_zero_is_rejected() -> None:
    sketch = Sketch.of(np.array([0, 0, 0, 1], np.float32))
    with pytest.raises(NormalizationError, match="choose a higher quantile"):
        fit({"AIA_0094": sketch}, method="quantile:0.5", **RANGE)


def test_version_is_stable() -> None:
    # If this version changes, existing shards are incompatible with new constants.
    assert fitted().version == "5b44bd29f3f70abc"


def test_version_depends_only_on_the_content() -> None:
    assert fitted() == fitted()
    assert fitted().version == from_json(fitted().to_json()).version
    versions = {fitted(method).version for method in ("max", "quantile:0.9999", "quantile:0.5")}
    sketches = {"AIA_0193": Sketch.of(frame())}
    for change in ({"days": 1}, {"resolution": 256}, {"last_day": date(2024, 1, 1)}):
        versions.add(fit(sketches, method="max", **{**RANGE, **change}).version)
    assert len(versions) == 6


def test_json_is_canonical_and_round_trips() -> None:
    text = fitted().to_json()
    assert from_json(text) == fitted()
    assert text.endswith(b"}\n")
    assert list(json.loads(text)["channels"]) == ["AIA_0193", "AIA_1700", "HMI_M"]
    assert json.loads(text)["version"] == fitted().version


def test_json_may_be_reformatted_but_not_changed() -> None:
    content = json.loads(fitted().to_json())
    assert from_json(json.dumps(content).encode()) == fitted()
    content["channels"]["AIA_0193"]["constant"] += 1e-9
    with pytest.raises(DamagedFileError, match="does not match its version"):
        from_json(json.dumps(content).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"1", b"{}", b"null", b"\xff", b"[" * 100_000])
def test_invalid_json_is_rejected(text: bytes) -> None:
    with pytest.raises(DamagedFileError):
        from_json(text)


def test_mutated_json_is_detected() -> None:
    text = fitted().to_json()
    rng = random.Random(4)
    for _ in range(3_000):
        mutated = bytearray(text)
        mutated[rng.randrange(len(mutated))] = rng.choice(b'0123456789-+.eE"{}[],: \n\x00\xff')
        try:
            restored = from_json(bytes(mutated))
        except DamagedFileError:
            continue
        assert restored == fitted()


values = arrays(np.float32, (3, 5), elements=st.floats(0, 2.0**100, width=32))


@given(values, st.floats(2.0**-20, 2.0**40))
def test_normalized_pixels_are_between_0_and_1_and_round_trip(
    pixels: NDArray[np.float32], constant: float
) -> None:
    out = normalize(pixels, constant, np.empty_like(pixels))
    assert out.min() >= 0
    assert out.max() <= 1
    back = denormalize(out, constant, np.empty_like(pixels))
    assert back == pytest.approx(np.minimum(pixels, constant), rel=1e-6, abs=constant * 1e-30)


@given(values, st.floats(2.0**-20, 2.0**40))
def test_float16_round_trips_within_its_precision(
    pixels: NDArray[np.float32], constant: float
) -> None:
    out = normalize(pixels, constant, np.empty(pixels.shape, np.float16))
    assert out.dtype == np.float16
    assert out.max() <= 1
    back = denormalize(out, constant, np.empty_like(pixels))
    assert back.dtype == np.float32
    # float16 has 11 significant bits, and squaring doubles the relative error. Below 2^-14, the
    # absolute rounding error is up to 2^-25.
    assert back == pytest.approx(np.minimum(pixels, constant), rel=1.1e-3, abs=constant * 1e-8)


@pytest.mark.slow
def test_constants_keep_the_quiet_sun_visible() -> None:
    frames = {
        f"AIA_{int(name.partition(' ')[0]):04d}": process_aia(
            real_frame(name), resolution=512, degradation=0.8
        )
        for name in REAL_2014
    }
    sketches = {channel: Sketch.of(pixels) for channel, pixels in frames.items()}
    normalization = fit(sketches, method="quantile:0.9999", **RANGE)
    for channel, pixels in frames.items():
        constant = normalization.constant(channel)
        assert constant == pytest.approx(np.quantile(pixels, 0.9999), rel=0.005)
        normalized = normalize(pixels, constant, np.empty_like(pixels))
        assert (normalized == 1).mean() == pytest.approx(1e-4, rel=0.5)
        # An active region determines the constant, but a quiet pixel still has 10 of 256 levels.
        assert np.median(normalized[150:362, 150:362]) > 10 / 256
        back = denormalize(normalized, constant, np.empty_like(pixels))
        assert back == pytest.approx(np.minimum(pixels, constant), rel=1e-6)


def test_formula_matches_sdoml_lite() -> None:
    constant = 700.0
    x = frame().astype(np.float64)
    expected = np.minimum(np.sqrt(x), np.sqrt(constant)) / np.sqrt(constant)
    assert normalize(frame(), constant, np.empty_like(frame())) == pytest.approx(expected, rel=2e-7)


def test_saturated_pixels_are_exactly_1() -> None:
    for constant in np.random.default_rng(0).lognormal(5, 5, 300):
        pixels = np.array([constant, constant * 1.5, 3e38], np.float32)
        assert normalize(pixels, float(constant), np.empty_like(pixels))[1:].tolist() == [1, 1]


def test_normalization_does_not_change_hmi_levels() -> None:
    levels = (np.arange(256) / 255).astype(np.float32)
    out = normalize(levels, 1.0, np.empty_like(levels), transform="linear")
    assert out.tobytes() == levels.tobytes()
    assert denormalize(out, 1.0, out, transform="linear").tobytes() == levels.tobytes()


def test_nan_stays_nan_and_negative_pixels_become_zero() -> None:
    pixels = np.array([np.nan, -3, 4], np.float32)
    out = normalize(pixels, 16.0, np.empty_like(pixels))
    assert np.isnan(out[0])
    assert out[1:].tolist() == [0, 0.5]


def test_read_only_frames_and_output_views_work() -> None:
    pixels = frame()
    pixels.flags.writeable = False
    stack = np.zeros((2, 64, 64), np.float16)
    normalize(pixels, 1020.0, stack[1])
    assert stack[0].max() == 0
    assert stack[1].max() == 1


def test_constants_can_be_read_without_numba() -> None:
    code = "import sys, sdoml_core.normalization.constants; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
