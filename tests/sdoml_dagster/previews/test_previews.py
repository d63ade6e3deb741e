import base64
import io
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS
from sdoml_core.normalization.fit import fit
from sdoml_core.normalization.sketch import Sketch
from sdoml_core.normalization.transform import normalize
from sdoml_dagster.previews import (
    INLINE_TILE,
    Panel,
    contact_sheet,
    coverage_calendar,
    data_uri_markdown,
    histograms,
    inline_markdown,
    png,
)
from sdoml_dagster.previews.canvas import PANEL, shorten, text_width, wrap_text
from sdoml_dagster.previews.coverage_calendar import coverage_class

OBSERVED = datetime(2024, 3, 8, 12, 14, 5, tzinfo=UTC)


def sun(seed: int = 0, edge: int = 128) -> NDArray[np.float32]:
    """Draw a noisy disk with a bright limb and a single very bright pixel, in DN/s."""
    y, x = np.mgrid[:edge, :edge] - (edge - 1) / 2
    radius = np.hypot(x, y) / (edge * 0.397)
    noise = np.random.default_rng(seed).gamma(20, 0.05, (edge, edge))
    image = np.where(radius < 1, 200 * (1 + radius**4), 400 * np.exp(-6 * (radius - 1))) * noise
    image[edge // 3, edge // 3] = 1e6
    return image.astype(np.float32)


def panels(edge: int = 128) -> list[Panel]:
    images = {name: sun(seed, edge) for seed, name in enumerate(DEFAULT_CHANNELS)}
    images["HMI_M"] = np.clip(images["HMI_M"] / 500, 0, 1)
    return [Panel(name, image, OBSERVED) for name, image in images.items()]


def region(image: Image.Image, left: int, top: int, edge: int) -> NDArray[np.uint8]:
    return np.asarray(image)[top : top + edge, left : left + edge]


def decoded(markdown: str) -> Image.Image:
    mime, _, text = markdown.partition("(data:")[2].removesuffix(")").partition(";base64,")
    assert mime in {"image/webp", "image/png"}
    return Image.open(io.BytesIO(base64.b64decode(text, validate=True)))


@pytest.fixture(scope="module")
def sketches() -> dict[str, Sketch]:
    found = {panel.channel: Sketch.of(panel.image) for panel in panels() if panel.image is not None}
    return {**found, "AIA_1700": Sketch()}


def test_sheet_shows_each_channel_in_its_colormap() -> None:
    sheet = contact_sheet(panels(), title="2024-03-08", tile=64)
    assert sheet.width > 4 * 64
    assert sheet.height > 2 * 64
    left, top, step = 12, 12 + 27, 64 + 12  # margin, margin + header, tile + gap
    blue_of_131 = region(sheet, left + step, top, 64).reshape(-1, 3).mean(axis=0)
    gold_of_171 = region(sheet, left + 2 * step, top, 64).reshape(-1, 3).mean(axis=0)
    assert blue_of_131[2] > 1.2 * blue_of_131[0]
    assert gold_of_171[0] > 1.5 * gold_of_171[2]
    gray = region(sheet, left + 3 * step, top + 64 + 12 + 21, 64).astype(int)
    assert np.ptp(gray, axis=2).max() == 0


def test_single_bright_pixel_does_not_darken_the_disk() -> None:
    with_hot = contact_sheet([Panel("AIA_0193", sun())], title="", tile=128)
    calm = sun()
    calm[128 // 3, 128 // 3] = 200
    without = contact_sheet([Panel("AIA_0193", calm)], title="", tile=128)
    difference = np.abs(np.asarray(with_hot, int) - np.asarray(without, int)).max(axis=2)
    assert np.count_nonzero(difference > 4) <= 2


def test_normalized_and_processed_values_produce_the_same_picture() -> None:
    processed = sun()
    constant = float(processed.max())
    normalized = normalize(processed, constant, np.empty_like(processed))
    one = contact_sheet([Panel("AIA_0171", processed)], title="x", tile=96)
    two = contact_sheet([Panel("AIA_0171", normalized)], title="x", tile=96, normalized=True)
    assert np.abs(np.asarray(one, int) - np.asarray(two, int)).max() <= 1


def test_missing_channel_shows_its_reason() -> None:
    unlabeled = contact_sheet([Panel("AIA_1700", None)], title="", tile=256)
    labeled = contact_sheet([Panel("AIA_1700", None, None, "404 everywhere")], title="", tile=256)
    assert region(unlabeled, 30, 60, 10).reshape(-1, 3).tolist() == [list(PANEL)] * 100
    assert unlabeled.tobytes() != labeled.tobytes()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), np.float32),
        np.full((64, 64), np.nan, np.float32),
        np.ones((64, 64), np.float16),
        sun(edge=1024),
    ],
)
@pytest.mark.parametrize("channel", CHANNELS)
def test_any_image_can_be_drawn(image: NDArray[np.float32], channel: str) -> None:
    contact_sheet([Panel(channel, image, OBSERVED)], title="x" * 300, subtitle="y" * 300, tile=64)


def test_sheet_without_channels_can_be_drawn() -> None:
    assert contact_sheet([], title="nothing").width > 0


def test_inline_sheet_fits_the_limit_at_full_size() -> None:
    sheet = contact_sheet(panels(edge=512), title="2024-03-08 12:15 UTC", tile=INLINE_TILE)
    markdown = inline_markdown(sheet, "contact sheet")
    assert len(markdown) <= 20_000
    assert decoded(markdown).size == sheet.size


def test_inline_image_shrinks_if_no_quality_fits() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (400, 400, 3), np.uint8)
    markdown = inline_markdown(Image.fromarray(noise), "noise", limit=8_000)
    assert len(markdown) <= 8_000
    assert decoded(markdown).width < 400


def test_markdown_embeds_the_image() -> None:
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    markdown = data_uri_markdown(png(image), "image/png", "three by two")
    assert markdown.startswith("![three by two](data:image/png;base64,")
    assert decoded(markdown).tobytes() == image.tobytes()


def test_images_are_reproducible(sketches: dict[str, Sketch]) -> None:
    def all_pictures() -> list[bytes]:
        day = date(2024, 1, 1)
        normalization = fit(
            sketches, method="max", resolution=128, first_day=day, last_day=day, days=1
        )
        return [
            png(contact_sheet(panels(), title="t", tile=64)),
            png(histograms(normalization, sketches)),
            png(coverage_calendar({day: 0.5})),
        ]

    assert all_pictures() == all_pictures()


@pytest.mark.parametrize("columns", [1, 2, 4])
def test_histograms_mark_the_constant_and_show_empty_channels(
    sketches: dict[str, Sketch], columns: int
) -> None:
    day = date(2024, 1, 1)
    facts = {"resolution": 128, "first_day": day, "last_day": day, "days": 1}
    fitted = fit(sketches, method="quantile:0.999", **facts)
    other = fit(sketches, method="quantile:0.9", **facts)
    picture = histograms(fitted, sketches, columns=columns)
    assert picture.size == histograms(other, sketches, columns=columns).size
    assert picture.tobytes() != histograms(other, sketches, columns=columns).tobytes()
    assert len(inline_markdown(picture, "histograms")) <= 20_000


def test_histograms_of_constant_frames_can_be_drawn() -> None:
    sketch = Sketch.of(np.full((8, 8), 3, np.float32))
    dark = Sketch.of(np.zeros((8, 8), np.float32))
    day = date(2024, 1, 1)
    sketches = {"AIA_0094": sketch, "AIA_0131": dark, "HMI_M": dark}
    fitted = fit(sketches, method="max", resolution=64, first_day=day, last_day=day, days=1)
    histograms(fitted, sketches)
    histograms(fit({}, method="max", resolution=64, first_day=day, last_day=day, days=1), {})


@pytest.mark.parametrize(
    ("fraction", "name"),
    [
        (0.0, "none"),
        (0.001, "< 50%"),
        (0.5, "< 90%"),
        (0.9, "< 100%"),
        (0.9999, "< 100%"),
        (1.0, "complete"),
    ],
)
def test_only_complete_days_are_shown_as_complete(fraction: float, name: str) -> None:
    assert coverage_class(fraction)[0] == name


def test_calendar_has_one_square_per_day() -> None:
    first = date(2023, 12, 1)
    days = {first + timedelta(days=number): 1.0 for number in range(100)}
    days[date(2024, 2, 29)] = 0.0
    picture = np.asarray(coverage_calendar(days)).reshape(-1, 3)
    complete = np.count_nonzero((picture == coverage_class(1.0)[1]).all(axis=1))
    none = np.count_nonzero((picture == coverage_class(0.0)[1]).all(axis=1))
    # The legend adds one square per class to those of the 99 complete days and the empty day.
    assert complete / none == pytest.approx(100 / 2, rel=0.02)


def test_calendar_can_be_empty_or_cover_the_mission() -> None:
    first = date(2010, 5, 13)
    mission = {first + timedelta(days=number): 1.0 for number in range(6000)}
    one_year = coverage_calendar({date(2012, 12, 31): 1.0})
    assert coverage_calendar(mission).height > 10 * one_year.height / 2
    coverage_calendar({})


def test_text_is_shortened_and_wrapped() -> None:
    long = "a server error after five tries at every mirror"
    assert text_width(shorten(long, 14, 100), 14) <= 100
    assert shorten("short", 14, 100) == "short"
    lines = wrap_text(long, 14, 120)
    assert " ".join(lines) == long
    assert all(text_width(line, 14) <= 120 for line in lines)


def test_import_loads_no_heavy_packages() -> None:
    code = (
        "import sys, sdoml_dagster.previews as p\n"
        "heavy = {'numba', 'torch', 'astropy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
