"""Releases are built by Dagster from small synthetic days and read with several libraries."""

import dataclasses
import gc
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.errors import (
    DamagedFileError,
    DatasetError,
    MissingInputError,
    NormalizationError,
    SettingError,
)
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_core.formats.sketch_file import encode_sketches
from sdoml_core.loader import SDOMLlite
from sdoml_core.normalization.sketch import Sketch, merge
from sdoml_core.normalization.transform import denormalize
from sdoml_core.slots import day_slots, midnight
from sdoml_dagster.archive.address import public
from sdoml_dagster.assets.release import build_release_asset
from sdoml_dagster.days import DayRange, list_days
from sdoml_dagster.formatting import percent, size_category, size_text
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.release import build as publish
from sdoml_dagster.release.build import Release, ReleaseRequest
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

pytestmark = pytest.mark.slow

FIRST = date(2024, 3, 1)
NAMES = ("AIA_0171", "AIA_0193", "HMI_M")
SIDE = 64


def settings_for(folder: Path, **changes: Any) -> Settings:
    given: dict[str, Any] = {
        "store": str(folder),
        "start": "2024-03-01",
        "end": "2025-03-01",
        "cadence_minutes": 180,
        "channels": NAMES,
        "resolution": SIDE,
        "threads": 2,
        "aia_roots": ["https://reader:secret@archive.example/aia?key=1"],
        "run_retries": 0,
    }
    return Settings.load(**given | changes)


def pixels(slot: datetime, channel: str) -> NDArray[np.float32]:
    """Return a disk whose texture depends only on slot and channel. HMI is in [0, 1]."""
    rng = np.random.default_rng([int(slot.timestamp()) // 60, list(CHANNELS).index(channel)])
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    disk = np.hypot(x, y) < 0.397 * SIDE
    frame = rng.random((SIDE, SIDE)) * (disk + 0.05)
    return (frame if channel == "HMI_M" else frame * 400).astype(np.float32)


def fate(slot: datetime, channel: str) -> tuple[str, str | None]:
    """Return a frame's status: 171 Å is missing at 06:00; 193 Å has bad quality at 09:00."""
    losses = {
        ("AIA_0171", 6): ("missing", "404"),
        ("AIA_0193", 9): ("quality", "eclipse"),
        ("HMI_M", 21): ("blank", "black"),
    }
    return losses.get((channel, slot.hour), ("ok", None))


def write_processed(store: Store, day: date, settings: Settings, *, whole: bool = False) -> None:
    """Write the files of a processed day."""
    for instrument in INSTRUMENTS:
        rows: list[FrameRow] = []
        sketches: dict[str, Sketch] = {}
        for channel in settings.channels_of(instrument):
            frames: list[NDArray[np.float32]] = []
            for slot in day_slots(day, cadence_minutes=settings.cadence_minutes):
                status, reason = ("ok", None) if whole else fate(slot, channel.name)
                row = FrameRow(slot, channel.name, status, reason=reason)  # type: ignore[arg-type]
                if status == "ok":
                    frame = pixels(slot, channel.name)
                    row = dataclasses.replace(
                        row,
                        row=len(frames),
                        observed=slot + timedelta(seconds=4.84),
                        rsun_obs=965.0,
                        crc32=zlib.crc32(frame.data),
                        degradation_table="V9 (0123456789ab), frozen after 2020-06-02"
                        if instrument == "AIA"
                        else None,
                    )
                    frames.append(frame)
                rows.append(row)
            data = io.BytesIO()
            np.save(data, np.array(frames, np.float32).reshape(-1, SIDE, SIDE))
            store.write(layout.processed_frames(day, channel), data.getvalue())
            sketches[channel.name] = merge(Sketch.of(frame) for frame in frames)
        store.write(layout.sketches(day, instrument), encode_sketches(sketches))
        store.write(layout.frame_table(day, instrument), FRAME_TABLE.encode(rows))


def build(folder: Path, days: Sequence[int], **changes: Any) -> Settings:
    """Build a store with the shards of the given days, which are numbered from the first day."""
    settings = settings_for(folder, **changes)
    store = Store(str(folder))
    for number in days:
        write_processed(store, FIRST + timedelta(days=number), settings)
    freeze(store, fit_store(settings, store).normalization, replace=True)
    for number in days:
        pack_day(FIRST + timedelta(days=number), settings=settings, store=store, report=print)
    return settings


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with ten of eleven days. One day was not built."""
    folder = tmp_path_factory.mktemp("origin")
    build(folder, [0, 1, 2, 3, 5, 6, 7, 8, 9, 10])
    return folder


@pytest.fixture
def stored(origin: Path, tmp_path: Path) -> Path:
    """A copy of `origin` that a test may change."""
    shutil.copytree(origin, tmp_path / "store")
    return tmp_path / "store"


def make(folder: Path, settings: Settings | None = None, **request: Any) -> Release:
    settings = settings or settings_for(folder)
    return publish.publish(
        ReleaseRequest(**request), settings=settings, store=Store(str(folder)), report=print
    )


def materialize(folder: Path, **config: Any) -> dg.ExecuteInProcessResult:
    with warnings.catch_warnings():
        # Dagster 1.13 warns that backfill policies are in beta.
        warnings.simplefilter("ignore", dg.BetaWarning)
        asset = build_release_asset(settings_for(folder))
    return dg.materialize(
        [asset],
        resources={"store": StoreResource(url=str(folder))},
        run_config={"ops": {"release": {"config": config}}} if config else None,
        raise_on_error=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_card_lists_the_hosts_recorded_in_the_ledgers(stored: Path) -> None:
    """The days may have been fetched from hosts other than those in the release's settings."""
    store = Store(str(stored))
    day = min(layout.shard_files(store))
    row = RawRow(midnight(day), "AIA_0171", "ok", url="http://127.0.0.1:8300/2024/frame.fits")
    store.write(layout.raw_ledger(day, "AIA"), RAW_LEDGER.encode([row]))
    card = make(stored).card
    assert "Other hosts that frames were fetched from: 127.0.0.1." in card
    assert "may be the simulator that comes with sdoml-lite" in card


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.asset_materializations_for_node("release")
    return {name: value.value for name, value in event.metadata.items()}


@pytest.fixture(scope="session")
def released(origin: Path) -> Path:
    """The release with default options, built by Dagster."""
    result = materialize(origin)
    assert result.success
    return origin / "releases/sdoml-lite"


def test_shards_are_numbered_hard_links(origin: Path, released: Path) -> None:
    tars = sorted(path.name for path in released.glob("*.tar"))
    assert tars == [f"sdoml-lite-{number:02d}.tar" for number in range(1, 11)]
    assert (released / "sdoml-lite-05.tar").samefile(
        origin / "shards/2024/sdoml-lite-2024-03-06.tar"
    )
    others = {path.name for path in released.iterdir()} - set(tars)
    assert others == {
        "README.md",
        "SHA256SUMS",
        "contact_sheet.png",
        "coverage.parquet",
        "index.parquet",
        "normalization.json",
    }


def test_sha256sum_verifies_every_file(released: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=released, capture_output=True, text=True, check=True
    )
    verified = {line.partition(":")[0] for line in done.stdout.splitlines()}
    assert verified == {path.name for path in released.iterdir()} - {"SHA256SUMS"}


def test_metadata_describes_the_release(stored: Path) -> None:
    result = materialize(stored, name="spring", last_day="2024-03-03")
    told = metadata(result)
    assert (told["shards"], told["samples"], told["complete_samples"]) == (3, 24, 15)
    assert told["release"].endswith("releases/spring")
    current = json.loads((stored / "normalization/current.json").read_bytes())
    assert told["normalization_version"] == current["version"]
    assert told["coverage"].startswith("![coverage by day](data:image/webp;base64,")
    assert told["card"] == (stored / "releases/spring/README.md").read_text()
    (event,) = result.asset_materializations_for_node("release")
    sums = (stored / "releases/spring/SHA256SUMS").read_bytes()
    assert event.tags["dagster/data_version"] == hashlib.sha256(sums).hexdigest()
    assert told["size_MiB"] > 0


def test_sdomllite_reads_the_release(released: Path) -> None:
    dataset = SDOMLlite(released, channels=NAMES, units="dn")
    assert len(dataset) == 50
    image, time = dataset["2024-03-06T12:00:00"]
    assert time == "2024-03-06T12:00:00"
    slot = datetime(2024, 3, 6, 12, tzinfo=UTC)
    constant = json.loads((released / "normalization.json").read_bytes())["channels"]
    for number, name in enumerate(NAMES[:2]):
        expected = np.minimum(pixels(slot, name), constant[name]["constant"]) / (1024 / SIDE) ** 2
        np.testing.assert_allclose(image[number], expected, rtol=1e-5, atol=1e-4)


def test_webdataset_reads_the_release(released: Path) -> None:
    urls = f"{released}/sdoml-lite-{{01..10}}.tar"
    samples = streamed(urls)
    assert len(samples) == 80
    assert samples[0]["__key__"] == "2024/03/01/0000"
    assert samples[0]["aia_0193.npy"].shape == (SIDE, SIDE)
    assert "aia_0171.npy" not in samples[2]


def streamed(urls: str) -> list[dict[str, Any]]:
    """Return samples read by webdataset. The garbage collector closes its last file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode())
        gc.collect()
    return samples


def hf_dataset(*args: Any, **options: Any) -> Iterator[Any]:
    """Read samples with Hugging Face datasets, without network access or warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

        yield from datasets.load_dataset(*args, split="train", streaming=True, **options)


def test_hugging_face_reads_a_release_of_complete_samples(stored: Path) -> None:
    make(stored, name="whole", complete_only=True)
    folder = stored / "releases/whole"
    by_files = list(hf_dataset("webdataset", data_files=f"{folder}/*.tar"))
    by_card = list(hf_dataset(str(folder)))
    for samples in (by_files, by_card):
        assert len(samples) == 50
        assert {"AIA_0171.npy", "AIA_0193.npy", "HMI_M.npy"} <= samples[0].keys()
        assert np.asarray(samples[0]["HMI_M.npy"]).shape == (SIDE, SIDE)


def test_tarfile_and_numpy_read_the_release(released: Path) -> None:
    with tarfile.open(released / "sdoml-lite-01.tar") as tar:
        member = tar.extractfile("2024/03/01/1200.AIA_0193.npy")
        assert member is not None
        frame = np.load(io.BytesIO(member.read()))
    constants = json.loads((released / "normalization.json").read_bytes())["channels"]
    constant = constants["AIA_0193"]["constant"]
    expected = np.minimum(pixels(datetime(2024, 3, 1, 12, tzinfo=UTC), "AIA_0193"), constant)
    np.testing.assert_allclose(
        denormalize(frame, constant, np.empty_like(frame, np.float32)),
        expected,
        rtol=1e-5,
        atol=1e-4,
    )


def test_coverage_counts_every_expected_frame(released: Path) -> None:
    rows = pq.read_table(released / "coverage.parquet").to_pylist()
    assert len(rows) == 11 * 3
    outcomes = [name for name in rows[0] if name not in {"day", "channel", "expected"}]
    assert all(row["expected"] == sum(row[name] for name in outcomes) == 8 for row in rows)
    found = {(row["day"], row["channel"]): row for row in rows}
    assert found[FIRST, "AIA_0171"]["missing"] == found[FIRST, "AIA_0193"]["quality"] == 1
    assert found[FIRST, "HMI_M"]["blank"] == 1
    assert found[date(2024, 3, 5), "HMI_M"]["not_built"] == 8


def test_coverage_counts_frames_without_a_table_as_unexplained(stored: Path) -> None:
    shutil.rmtree(stored / "processed")
    counts = make(stored).description.coverage.by_channel()
    assert counts["HMI_M"]["ok"] == 70
    assert counts["HMI_M"]["unexplained"] == 10
    assert counts["HMI_M"]["not_built"] == 8


def test_omitted_slots_are_counted_as_not_built(stored: Path) -> None:
    finer = settings_for(stored).model_copy(update={"cadence_minutes": 90})
    coverage = make(stored, finer).description.coverage
    counts = coverage.by_channel()["HMI_M"]
    assert counts["unexplained"] == 0
    assert counts["not_built"] > 8
    assert FIRST in coverage.days_built_in_part
    assert coverage.days_without_shard == [date(2024, 3, 5)]


def test_card_describes_the_release(released: Path) -> None:
    card = (released / "README.md").read_text()
    _, block, body = card.split("---\n", 2)
    hub = yaml.safe_load(block)
    assert hub["license"] == "cc0-1.0"
    assert hub["size_categories"] == ["n<1K"]
    assert hub["configs"][0]["data_files"] == [{"split": "train", "path": "*.tar"}]
    assert {"sdo", "aia", "hmi", "webdataset"} <= set(hub["tags"])
    for fact in (
        "AIA_0171, AIA_0193, HMI_M",
        "2024-03-01 00:00 to 2024-03-11 21:00 UTC",
        "180 minutes",
        "64×64 float32",
        "| 80; 50 have all channels",
        "1 of 11 days in this range were not built: 2024-03-05.",
        "<https://archive.example/aia>",
        "<http://jsoc.stanford.edu/data/hmi/images>",
        "V9 (0123456789ab), frozen after 2020-06-02",
        "Courtesy of NASA/SDO and the AIA and HMI science teams",
        "sdoml-lite-{01..10}.tar",
    ):
        assert fact in body, fact
    assert "secret" not in card
    for name, channel in json.loads((released / "normalization.json").read_bytes())[
        "channels"
    ].items():
        assert f"| `{name}` |" in body
        assert f"| {channel['constant']:.6g} |" in body


def test_code_in_the_card_runs(released: Path) -> None:
    # One of the first samples lacks 171 Å, which Hugging Face's builder does not support.
    assert run_snippets(released) == 3
    card = (released / "README.md").read_text()
    assert "Hugging Face's builder requires that the first samples" in card


def test_code_in_the_card_runs_with_incomplete_samples(tmp_path: Path) -> None:
    settings = build(tmp_path, [0], cadence_minutes=60)
    make(tmp_path, settings)
    folder = tmp_path / "releases/sdoml-lite"
    assert run_snippets(folder) == 4
    assert "If a sample lacks a channel, its value is `None`." in (folder / "README.md").read_text()
    samples = list(hf_dataset("webdataset", data_files=f"{folder}/*.tar"))
    assert [n for n, sample in enumerate(samples) if sample["AIA_0171.npy"] is None] == [6]


def run_snippets(release: Path) -> int:
    """Run the code in a card and return the number of blocks."""
    blocks = (release / "README.md").read_text().split("```python\n")[1:]
    for block in blocks:
        code = block.split("```")[0].replace('"sdoml-lite', f'"{release}')
        scope: dict[str, Any] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # webdataset and datasets issue warnings
            exec(code, scope)
        value = scope.get("frame", scope.get("image", scope.get("sample")))
        assert value is not None
    return len(blocks)


def test_contact_sheet_shows_a_complete_sample(released: Path) -> None:
    with Image.open(released / "contact_sheet.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 1000


def test_shard_numbers_of_a_year_have_three_digits(tmp_path: Path) -> None:
    """Only linking and numbering are tested, so each of the 365 days has a copy of one frame."""
    settings = build(tmp_path, [0], channels=("AIA_0193",), cadence_minutes=1440)
    first = tmp_path / "shards/2024/sdoml-lite-2024-03-01.tar"
    index = decode_index(first.with_suffix(".parquet").read_bytes())
    for number in range(1, 365):
        day = FIRST + timedelta(days=number)
        write_shifted_day(tmp_path, first.read_bytes(), index, day)
    done = make(tmp_path, settings)
    assert done.description.shards[0] == "sdoml-lite-001.tar"
    assert done.description.shards[-1] == "sdoml-lite-365.tar"
    assert done.description.samples == 365
    assert len(SDOMLlite(tmp_path / "releases/sdoml-lite", channels=["AIA_0193"])) == 365


def write_shifted_day(folder: Path, shard: bytes, index: Any, day: date) -> None:
    """Write a copy of the first day's shard with a different date."""
    old, new = b"2024/03/01/0000", f"{day:%Y/%m/%d}/0000".encode()
    header = bytearray(shard[:512].replace(old, new))
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    data = bytes(header) + shard[512:]
    row = index.table.to_pylist()[0]
    row["slot"] = datetime(day.year, day.month, day.day, tzinfo=UTC)
    row["member"] = row["member"].replace(old.decode(), new.decode())
    path = folder / layout.shard(day)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    encoded = encode_index(
        type(index.table).from_pylist([row], schema=index.table.schema),
        shard=layout.shard(day).removeprefix("shards/"),
        shard_bytes=len(data),
        shard_sha256=hashlib.sha256(data).hexdigest(),
        normalization_version=index.normalization_version,
    )
    path.with_suffix(".parquet").write_bytes(encoded)


def test_shards_of_several_days_contain_the_same_frames(stored: Path, released: Path) -> None:
    done = make(stored, name="weekly", prefix="week", days_per_shard=7)
    folder = stored / "releases/weekly"
    assert sorted(path.name for path in folder.glob("*.tar")) == ["week-1.tar", "week-2.tar"]
    assert done.description.samples == 80
    daily, weekly = (SDOMLlite(path, channels=NAMES, verify=True) for path in (released, folder))
    assert len(daily) == len(weekly) == 50
    for number in (0, 24, 49):
        assert daily[number][1] == weekly[number][1]
        assert bool((daily[number][0] == weekly[number][0]).all())
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    with tarfile.open(folder / "week-2.tar") as tar:
        assert tar.getnames()[0] == "2024/03/09/0000.AIA_0171.npy"


def test_complete_only_samples_have_the_same_members(stored: Path) -> None:
    done = make(stored, complete_only=True)
    assert (done.description.samples, done.description.complete) == (50, 50)
    urls = f"{stored}/releases/sdoml-lite/sdoml-lite-{{01..10}}.tar"
    samples = streamed(urls)
    members = {tuple(key for key in sample if key.endswith("npy")) for sample in samples}
    assert members == {("aia_0171.npy", "aia_0193.npy", "hmi_m.npy")}
    assert done.description.coverage.by_channel()["HMI_M"]["incomplete"] == 20
    assert "Only samples with every channel were released" in done.card


def test_complete_only_links_days_that_are_complete(stored: Path) -> None:
    settings, store = settings_for(stored), Store(str(stored))
    write_processed(store, FIRST, settings, whole=True)
    pack_day(FIRST, settings=settings, store=store, report=print)
    make(stored, complete_only=True)
    first, second = (stored / f"releases/sdoml-lite/sdoml-lite-0{n}.tar" for n in (1, 2))
    assert first.samefile(stored / "shards/2024/sdoml-lite-2024-03-01.tar")
    assert second.stat().st_nlink == 1


def test_rewritten_shard_with_equal_bytes_keeps_its_file(stored: Path) -> None:
    make(stored, days_per_shard=3)
    folder = stored / "releases/sdoml-lite"
    before = {path.name: path.stat().st_ino for path in folder.glob("*.tar")}
    make(stored, days_per_shard=3)
    assert {path.name: path.stat().st_ino for path in folder.glob("*.tar")} == before


def test_release_is_current_until_the_shards_or_the_request_change(stored: Path) -> None:
    store, settings = Store(str(stored)), settings_for(stored)

    def current(**request: Any) -> bool:
        asked = ReleaseRequest(name="mine", **request)
        return publish.is_current(asked, settings=settings, store=store)

    assert not current()
    make(stored, name="mine")
    assert current()
    assert not current(days_per_shard=2)
    (stored / "releases/mine/mine-03.tar").unlink()
    assert not current()
    make(stored, name="mine")
    assert current()
    write_processed(store, FIRST, settings, whole=True)
    pack_day(FIRST, settings=settings, store=store, report=print)
    assert not current()


def test_index_files_of_the_original_loader_are_removed(stored: Path) -> None:
    folder = stored / "releases/sdoml-lite"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("tar_files_index", "dates_index_2024.json"):
        (folder / name).write_text("stale")
    make(stored)
    assert not [path.name for path in folder.iterdir() if "_index" in path.name]


@pytest.mark.parametrize("request_", [{}, {"complete_only": True, "days_per_shard": 3}])
def test_repeated_release_has_the_same_bytes(stored: Path, request_: dict[str, Any]) -> None:
    make(stored, **request_)
    before = contents(stored / "releases/sdoml-lite")
    make(stored, settings_for(stored, threads=1), **request_)
    assert contents(stored / "releases/sdoml-lite") == before


@pytest.mark.parametrize("stop", range(1, 14, 2))
def test_killed_release_is_incomplete_and_can_be_completed(
    stored: Path, released: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    make(stored)
    folder = stored / "releases/sdoml-lite"
    for shard in folder.glob("*.tar"):  # so that the shards must be linked again
        shard.unlink()
    (folder / ".sdoml-lite-01.tar.0.partial").write_bytes(b"left by a killed run")
    left = stop

    def counted(method: str) -> Any:
        original = getattr(Store, method)

        def call(self: Store, *args: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return original(self, *args)

        return call

    with monkeypatch.context() as patch:
        for method in ("write", "link_or_copy"):
            patch.setattr(Store, method, counted(method))
        with pytest.raises(KeyboardInterrupt):
            make(stored)
    assert not (folder / "SHA256SUMS").exists()
    assert not (folder / "index.parquet").exists()
    with pytest.raises(DatasetError, match=r"an incomplete release.* run make_release again"):
        SDOMLlite(folder, channels=NAMES)
    make(stored)
    assert contents(folder) == contents(released)


def test_unchanged_shards_are_not_read_again(
    stored: Path, released: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(stored)
    hashed: list[str] = []
    original = Store.sha256_and_size

    def counted(self: Store, path: str) -> tuple[str, int]:
        if path.endswith(".tar"):
            hashed.append(path)
        return original(self, path)

    monkeypatch.setattr(Store, "sha256_and_size", counted)
    make(stored)
    assert hashed == []
    folder = stored / "releases/sdoml-lite"
    replaced = folder / "sdoml-lite-03.tar"
    data = replaced.read_bytes()
    replaced.unlink()
    replaced.write_bytes(data)  # a copy of the daily shard instead of a hard link
    (folder / "sdoml-lite-05.tar").unlink()
    make(stored)
    assert sorted(hashed) == [f"releases/sdoml-lite/sdoml-lite-0{number}.tar" for number in (3, 5)]
    assert contents(folder) == contents(released)


def test_shards_of_an_earlier_larger_release_are_removed(stored: Path) -> None:
    make(stored)
    (stored / "releases/sdoml-lite/notes.txt").write_text("mine")
    make(stored, days=DayRange(last=date(2024, 3, 2)), prefix="small")
    folder = stored / "releases/sdoml-lite"
    assert sorted(path.name for path in folder.glob("*.tar")) == ["small-1.tar", "small-2.tar"]
    assert (folder / "notes.txt").exists()
    assert len(SDOMLlite(folder, channels=NAMES)) == 10


def test_release_keeps_its_bytes_when_a_day_is_packed_again(stored: Path) -> None:
    make(stored)
    folder = stored / "releases/sdoml-lite"
    before = contents(folder)
    store, settings = Store(str(stored)), settings_for(stored)
    write_processed(store, FIRST, settings, whole=True)
    pack_day(FIRST, settings=settings, store=store, report=print)
    assert contents(folder) == before
    make(stored)
    assert contents(folder) != before


def test_card_lists_requested_days_without_a_shard(stored: Path) -> None:
    done = make(stored, days=DayRange(date(2024, 2, 1), date(2024, 3, 14)))
    listed = "4 of 14 days in this range were not built: 2024-03-05, 2024-03-12 … 2024-03-14."
    assert listed in done.card


def test_error_for_mixed_constants_names_the_days_and_the_remedy(stored: Path) -> None:
    make(stored)
    settings, store = settings_for(stored, normalization="max"), Store(str(stored))
    old = json.loads((stored / "normalization/current.json").read_bytes())["version"]
    new = freeze(store, fit_store(settings, store).normalization, replace=True).version
    pack_day(date(2024, 3, 3), settings=settings, store=store, report=print)
    with pytest.raises(NormalizationError) as caught:
        make(stored)
    message = str(caught.value)
    assert f"{new}: 2024-03-03" in message
    assert f"{old}: 2024-03-01 … 2024-03-02, 2024-03-04, 2024-03-06 … 2024-03-11" in message
    assert "Materialize shards of 2024-03-01 … 2024-03-02, 2024-03-04" in message
    # The error is raised before the existing release is changed.
    assert (stored / "releases/sdoml-lite/index.parquet").exists()


def test_mixed_pixel_types_are_rejected(stored: Path) -> None:
    settings, store = settings_for(stored, dtype="float16"), Store(str(stored))
    pack_day(date(2024, 3, 3), settings=settings, store=store, report=print)
    with pytest.raises(DamagedFileError, match=r"float16 at 64×: 2024-03-03"):
        make(stored)


def test_shard_without_its_index_is_rejected(stored: Path) -> None:
    (stored / "shards/2024/sdoml-lite-2024-03-02.parquet").unlink()
    with pytest.raises(
        MissingInputError,
        match=r"a shard or an index, but not both, for 2024-03-02: run build_shards",
    ):
        make(stored)


def test_unrelated_files_among_the_shards_are_ignored(stored: Path, released: Path) -> None:
    (stored / "shards/2024/README.md").write_text("mine")
    (stored / "shards/2024/other-2024-03-05.tar").write_bytes(b"")
    make(stored)
    assert contents(stored / "releases/sdoml-lite") == contents(released)


def test_damaged_index_is_reported_before_any_change(stored: Path) -> None:
    make(stored)
    path = stored / "shards/2024/sdoml-lite-2024-03-02.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        DamagedFileError, match=rf"^{path} is damaged: .*; materialize shards of 2024-03-02 again$"
    ):
        make(stored)
    assert (stored / "releases/sdoml-lite/SHA256SUMS").exists()


def test_shard_of_wrong_size_is_rejected_before_any_change(stored: Path) -> None:
    make(stored)
    path = stored / "shards/2024/sdoml-lite-2024-03-02.tar"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-512])
    with pytest.raises(DamagedFileError, match="materialize shards of 2024-03-02 again"):
        make(stored)
    assert (stored / "releases/sdoml-lite/SHA256SUMS").exists()


@pytest.mark.parametrize("days_per_shard", [1, 4])
@pytest.mark.parametrize("day", ["2024-03-06", "2024-03-07"])
def test_shard_with_altered_bytes_is_rejected(stored: Path, days_per_shard: int, day: str) -> None:
    path = stored / f"shards/2024/sdoml-lite-{day}.tar"
    data = bytearray(path.read_bytes())
    data[4096] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError, match=f"materialize shards of {day} again"):
        make(stored, days_per_shard=days_per_shard)
    assert not (stored / "releases/sdoml-lite/index.parquet").exists()
    assert not (stored / "releases/sdoml-lite/SHA256SUMS").exists()


def test_range_without_shards_is_rejected(stored: Path) -> None:
    with pytest.raises(MissingInputError, match=r"no shard from 2024-05-01 on"):
        make(stored, days=DayRange(first=date(2024, 5, 1)))
    result = materialize(stored, first_day="2024-05-01")
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "run build_shards first" in str(failure.event_specific_data)


def test_range_without_complete_samples_is_rejected(stored: Path) -> None:
    settings = settings_for(stored, channels=(*NAMES, "AIA_0304"))
    with pytest.raises(
        MissingInputError, match=r"no sample with every channel \(.*AIA_0304 0,.*\)"
    ):
        make(stored, settings, complete_only=True)


def test_error_names_missing_constants(stored: Path) -> None:
    for path in (stored / "normalization").iterdir():
        path.unlink()
    with pytest.raises(
        MissingInputError, match="which the shards were normalized with, is missing"
    ):
        make(stored)


def test_constants_of_the_wrong_version_are_rejected(stored: Path) -> None:
    version = json.loads((stored / "normalization/current.json").read_bytes())["version"]
    other = fit_store(settings_for(stored, normalization="max"), Store(str(stored))).normalization
    path = stored / f"normalization/{version}.json"
    path.write_bytes(other.to_json())
    with pytest.raises(DamagedFileError, match=rf"^{path} contains .* version {other.version}$"):
        make(stored)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"name": "../elsewhere"}, "'../elsewhere' is not a valid release name"),
        ({"name": "2024/a"}, "is not a valid release name"),
        ({"prefix": "a b"}, "'a b' is not a valid release name"),
        ({"days_per_shard": 0}, "days_per_shard must be 1 or more, not 0"),
        (
            {"days": DayRange(date(2024, 3, 2), date(2024, 3, 1))},
            "first_day 2024-03-02 is after last_day 2024-03-01",
        ),
    ],
)
def test_invalid_release_requests_are_reported_in_one_line(
    request_: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        ReleaseRequest(**request_)


def test_days_without_frames_have_no_shard(stored: Path) -> None:
    store, settings = Store(str(stored)), settings_for(stored)
    for instrument in INSTRUMENTS:
        path = layout.frame_table(FIRST, instrument)
        rows = FRAME_TABLE.decode(store.read(path))
        lost = [dataclasses.replace(row, status="outage", row=None) for row in rows]
        store.write(path, FRAME_TABLE.encode(lost))
    pack_day(FIRST, settings=settings, store=store, report=print)
    done = make(stored)
    assert len(done.description.shards) == 9
    assert done.description.shards[0] == "sdoml-lite-1.tar"
    assert done.description.coverage.by_day()[FIRST] == 0
    assert done.description.coverage.by_channel()["AIA_0193"]["outage"] == 8


def test_lowercase_float16_shards_can_be_released(tmp_path: Path) -> None:
    settings = build(tmp_path, [0, 1], dtype="float16", member_case="lower")
    done = make(tmp_path, settings, complete_only=True)
    assert "2024/03/01/0000.aia_0171.npy" in done.card
    assert "64×64 float16" in done.card
    assert len(SDOMLlite(tmp_path / "releases/sdoml-lite", channels=NAMES)) == 10


def test_card_for_one_instrument_does_not_mention_the_other(tmp_path: Path) -> None:
    card = make(tmp_path, build(tmp_path, [0], channels=("HMI_M",))).card
    text = card.split("## License")[0].replace("to the AIA grid", "")
    assert "AIA" not in text.replace("- aia", "")
    assert "https://archive.example" not in card
    assert "sdoml-lite-1.tar" in card


def test_card_values_are_human_readable() -> None:
    assert [size_category(n) for n in (1, 999, 1000, 10_000, 99_999, 560_640)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "10K<n<100K",
        "100K<n<1M",
    ]
    assert percent(99_999, 100_000) == "99.99%"
    assert percent(8, 8) == "100%"
    assert percent(0, 0) == "–"
    assert size_text(1536) == "1.5 KiB"
    assert size_text(397 << 30) == "397 GiB"
    assert public("https://user:word@host:81/path?token=1") == "https://host:81/path"
    odd = [FIRST + timedelta(days=2 * number) for number in range(15)]
    assert list_days(odd).endswith("2024-03-23 and 3 more ranges of days")
