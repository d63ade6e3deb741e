"""The viewer returns what the loader reads."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
import requests
from PIL import Image

from sdoml_core.loader import SDOMLlite
from sdoml_view import curves
from tests.support.range_server import serving_ranges
from tests.support.sunpy_maps import sunpy_map
from tests.support.synthetic_shards import at, frame, write_day
from tests.support.viewer import CHANNELS, CONSTANT, DAYS, SIDE, day, serving

NOON = "2022-11-02T01:15:00"


def ask(viewer: str, path: str, **query: object) -> requests.Response:
    return requests.get(f"{viewer}api/{path}", params=query, timeout=60)


def test_dataset_is_described(viewer: str) -> None:
    facts = ask(viewer, "dataset").json()
    assert facts["name"] == "my sun"
    assert facts["resolution"] == SIDE
    assert facts["cadence"] == 900
    assert facts["samples"] == DAYS * 24
    assert facts["start"] == "2022-11-02T01:00:00"
    assert [channel["name"] for channel in facts["channels"]] == list(CHANNELS)


def test_frames_are_display_levels_on_a_fixed_scale(viewer: str) -> None:
    reply = ask(viewer, "frames", t=NOON)
    assert reply.headers["X-Frames"] == ",".join(CHANNELS)
    levels = np.frombuffer(reply.content, np.uint8).reshape(len(CHANNELS), SIDE, SIDE)
    field = frame(at(NOON), "HMI_M", SIDE)
    np.testing.assert_allclose(levels[3], field * 255, atol=0.51)
    # The display level at 171 Å is the square root of DN/s, between 2 and 1200 DN/s.
    normalized = frame(at(NOON), "AIA_0171", SIDE).astype(np.float64)
    dn = np.clip(normalized**2 * CONSTANT / (1024 / SIDE) ** 2, 2, 1200)
    expected = (np.sqrt(dn) - np.sqrt(2)) / (np.sqrt(1200) - np.sqrt(2)) * 255
    np.testing.assert_allclose(levels[0], expected, atol=0.51)


def test_remote_release_is_read_by_byte_ranges(release: Path, viewer: str) -> None:
    query = {"t": NOON, "channels": "AIA_0171,HMI_M"}
    local = ask(viewer, "frames", **query)
    with serving_ranges(release) as server, serving(server.url) as remote:
        assert ask(remote, "dataset").json()["samples"] == DAYS * 24
        assert ask(remote, "frames", **query).content == local.content
        sent = {name: number for name, number in server.sent.items() if name.endswith(".tar")}
    assert sum(sent.values()) == 2 * (SIDE * SIDE * 4 + 128), "only two frames must be read"


def test_downsampled_frames_are_block_means(viewer: str) -> None:
    query = {"t": NOON, "channels": "HMI_M"}
    full = np.frombuffer(ask(viewer, "frames", **query).content, np.uint8).reshape(SIDE, SIDE)
    small = np.frombuffer(ask(viewer, "frames", size=16, **query).content, np.uint8)
    means = full.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(small.reshape(16, 16), means, atol=0.51)


def test_missing_frames_are_left_out(viewer: str) -> None:
    reply = ask(viewer, "frames", t="2022-11-02T01:00:00")  # 1700 Å is missing on the hour
    assert reply.headers["X-Frames"] == "AIA_0171,AIA_0211,HMI_M"
    assert len(reply.content) == 3 * SIDE * SIDE


def test_difference_of_equal_frames_is_gray(viewer: str) -> None:
    query = {"t": NOON, "channels": "HMI_M", "before": 2}
    levels = np.frombuffer(ask(viewer, "frames", **query).content, np.uint8).reshape(SIDE, SIDE)
    now, before = (
        frame(at(slot), "HMI_M", SIDE).astype(np.float64) for slot in (NOON, "2022-11-02T00:45")
    )
    expected = np.clip((now - before) * 127 * 3 + 128, 1, 255)
    np.testing.assert_allclose(levels, expected, atol=0.6)


def test_difference_needs_both_frames(viewer: str) -> None:
    assert ask(viewer, "frames", t="2022-11-01T00:00:00", before=1).headers["X-Frames"] == ""


def test_slots_mark_gaps_stand_ins_and_flags(viewer: str) -> None:
    start, end = "2022-11-02T01:00:00", "2022-11-02T02:00:00"
    found = ask(viewer, "slots", start=start, end=end).json()
    assert len(found["slots"]) == 4
    assert found["channels"]["AIA_1700"]["present"] == [0, 1, 1, 1]
    assert found["channels"]["AIA_0171"]["stand_in"] == [1, 0, 0, 0]
    assert found["channels"]["HMI_M"]["stand_in"] == [0, 0, 0, 0]
    assert found["channels"]["AIA_0171"]["flags"] == [0, 1, 0, 0]
    assert found["flags"][0] == [0, "provisional"]
    assert found["before"] == at("2022-11-02T00:45").timestamp()
    assert found["after"] == at("2022-11-02T02:00").timestamp()


def test_pixel_reports_coordinates_and_values_in_both_units(viewer: str, release: Path) -> None:
    found = ask(viewer, "pixel", t=NOON, x=40, y=20).json()
    normalized, _ = SDOMLlite(release, CHANNELS)[NOON]
    dn, _ = SDOMLlite(release, CHANNELS, units="dn")[NOON]
    gauss, _ = SDOMLlite(release, CHANNELS, units="gauss")[NOON]
    for number, name in enumerate(CHANNELS):
        physical = gauss if name == "HMI_M" else dn
        values = found["values"][name]
        assert values["normalized"] == pytest.approx(float(normalized[number, 20, 40]))
        expected = float(physical[number, 20, 40])
        assert values["physical"] == (None if np.isnan(expected) else pytest.approx(expected))
    assert found["place"]["latitude"] > 0  # north is up
    assert found["place"]["longitude"] > 0  # west is on the right
    assert ask(viewer, "pixel", t=NOON, x=0, y=0).json()["place"]["longitude"] is None


def test_calendar_has_counts_and_reasons_of_the_release(viewer: str) -> None:
    table = ask(viewer, "calendar").json()
    assert table["first"] == day(0).isoformat()
    assert table["days"] == DAYS
    assert table["found"][CHANNELS.index("AIA_1700")] == [18] * DAYS
    assert table["reasons"]["1"] == {"AIA_1700": {"quality": 6}, "AIA_0211": {"missing": 4}}


def test_frames_in_the_index_are_counted_without_a_coverage_table(tmp_path: Path) -> None:
    write_day(tmp_path, day(0), channels=CHANNELS, hours=24)
    with serving(tmp_path) as viewer:
        table = ask(viewer, "calendar").json()
    assert table["expected"] == [[96]] * 4
    assert [row[0] for row in table["found"]] == [96, 92, 72, 96]
    assert {path.suffix for path in tmp_path.iterdir()} == {".tar", ".parquet"}
    assert not list(tmp_path.glob(".*")), "the viewer wrote into the dataset"


@pytest.mark.parametrize(("date", "source"), [("2022-11-01", "pixels"), ("2022-11-02", "index")])
def test_light_curves_are_means_in_physical_units(
    viewer: str, release: Path, date: str, source: str
) -> None:
    slots = [f"{date}T01:00:00", f"{date}T01:15:00"]
    query = {"start": slots[0], "end": f"{date}T02:00:00", "channels": "AIA_0211"}
    found = ask(viewer, "curves", **query).json()
    (curve,) = found["curves"]
    dataset = SDOMLlite(release, ["AIA_0211"], units="dn")
    expected = [float(dataset[slot][0].double().mean()) for slot in slots]
    assert found["source"] == source
    assert curve["unit"] == "DN/s"
    assert curve["times"][0] == at(slots[0]).timestamp()
    assert curve["mean"][:2] == pytest.approx(expected, rel=1e-5)
    assert curve["saturated"] == [0.0] * 4


def test_light_curves_of_long_ranges_are_averaged(
    viewer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = {"start": "2022-11-02", "end": "2022-11-04", "channels": "HMI_M"}
    (full,) = ask(viewer, "curves", **query).json()["curves"]
    monkeypatch.setattr(curves, "MAX_POINTS", 12)
    (short,) = ask(viewer, "curves", **query).json()["curves"]
    assert len(full["mean"]) == 48
    assert short["mean"] == pytest.approx(np.reshape(full["mean"], (12, 4)).mean(axis=1), rel=1e-4)
    assert short["times"] == full["times"][::4]


def test_movie_has_one_frame_per_slot(viewer: str) -> None:
    query = {"start": "2022-11-02T01:00:00", "end": "2022-11-02T03:00:00", "size": 64}
    reply = ask(viewer, "movie", channels="AIA_0171,HMI_M", **query)
    assert reply.headers["Content-Type"] == "video/mp4"
    with av.open(io.BytesIO(reply.content)) as video:
        frames = [image.to_ndarray(format="rgb24") for image in video.decode(video=0)]
    assert len(frames) == 8
    assert frames[0].shape[1] == 2 * 64
    assert frames[0][20:44, 20:44].mean() > 60  # the disk is visible
    webp = ask(viewer, "movie", format="webp", channels="HMI_M", **query)
    assert Image.open(io.BytesIO(webp.content)).n_frames == 8


def test_fits_file_opens_as_a_sunpy_map(viewer: str, release: Path, tmp_path: Path) -> None:
    file = tmp_path / "frame.fits"
    file.write_bytes(ask(viewer, "fits", t=NOON, channels="AIA_0171").content)
    opened = sunpy_map(file)
    pixels = SDOMLlite(release, ["AIA_0171"], units="dn")[NOON][0][0].numpy()
    np.testing.assert_array_equal(opened.data, pixels[::-1])
    assert opened.wavelength.value == 171
    assert opened.exposure_time.value == pytest.approx(2.9)


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("frames", {"t": "2022-11-02T01:01:00"}, "no sample at"),
        ("frames", {"t": "yesterday"}, "not an ISO date"),
        ("frames", {"t": "0001-01-01T00:00:00+14:00"}, "outside the years 1 to 9999"),
        ("frames", {"t": NOON, "channels": "AIA_9999"}, "no channel AIA_9999"),
        ("frames", {"t": NOON, "size": 17}, "size must divide"),
        ("frames", {"t": NOON, "before": -1}, "must be a number"),
        ("pixel", {"t": NOON, "x": SIDE, "y": 0}, "must be a number"),
        ("slots", {"start": NOON, "end": NOON}, "empty or too long"),
        ("movie", {"start": NOON, "end": "2022-11-03", "format": "exe"}, "mp4 or webp"),
        ("movie", {"start": NOON, "end": "2032-11-03"}, "empty or too long"),
        (
            "fits",
            {"t": "2022-11-02T01:00:00", "channels": "AIA_1700"},
            "there is no AIA_1700 frame",
        ),
    ],
)
def test_invalid_requests_get_an_error_message(
    viewer: str, path: str, query: dict, message: str
) -> None:
    reply = ask(viewer, path, **query)
    assert reply.status_code == 400
    assert message in reply.json()["error"]
