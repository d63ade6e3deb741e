"""The messages in docs/troubleshooting.md are those that the code raises."""

import io
import os
import re
import shutil
import sys
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from sdoml_core.errors import SdomlError
from sdoml_core.frames.aia import decode_aia
from sdoml_core.frames.hmi import decode_hmi
from sdoml_core.frames.quality import quality_reason
from sdoml_core.loader import BatchSampler, SDOMLlite, SDOMLliteSequences, ShardDataset
from sdoml_dagster.archive.client import ArchiveClient, FrameMissingError
from sdoml_dagster.days import DayRange
from sdoml_dagster.failures import InterruptedRunError, failures_explained
from sdoml_dagster.partitions import DayRangeConfig, config_days, run_days
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze, needed_normalization, refuse_unasked_fit
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.release.build import ReleaseRequest, publish
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo.server import Archive
from tests.support.commands import run_module

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/troubleshooting.md"
AIA = ROOT / "sdoml_demo/data/AIA20180820_1248_0193.fits"
HMI = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"
ONE, OTHER, NEVER, EMPTY = (date(2024, 3, day) for day in (1, 2, 5, 6))
CHANNELS = ["AIA_0171", "HMI_M"]


def documented() -> list[re.Pattern[str]]:
    """Return patterns for the messages in the page's tables. An ellipsis matches any text."""
    messages = re.findall(r"^\| `(.+?)` \|", PAGE.read_text(), re.MULTILINE)
    assert len(messages) > 40
    return [
        re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
        for message in messages
    ]


def quiet(_: str) -> None:
    """Ignore progress lines."""


class Provoker:
    """Triggers errors in a store with built days."""

    def __init__(self, folder: Path, archive: Archive) -> None:
        self.folder = folder
        self.settings = Settings.load()
        self.store = Store(self.settings.store)
        self.root = Path(self.settings.store)
        self.archive = archive
        for day in (ONE, OTHER):
            self.fetch(day, "AIA", self.archive.aia_root)
            self.fetch(day, "HMI", self.archive.hmi_root)
            self.process(day)
            process_day(day, "HMI", settings=self.settings, store=self.store, report=quiet)
        freeze(self.store, fit_store(self.settings, self.store).normalization, replace=True)
        for day in (ONE, OTHER):
            self.pack(day)

    def fetch(self, day: date, instrument: str, root: str) -> str | None:
        with ArchiveClient([root], attempts=2, pause=0.01) as client:
            return fetch_day(
                day,
                instrument,
                settings=self.settings,
                store=self.store,
                client=client,
                report=quiet,
            ).warning

    def fetch_from_elsewhere(self) -> None:
        """Raise the warning from a fetch as an error."""
        raise SdomlError(self.fetch(EMPTY, "HMI", f"{self.archive.hmi_root}/elsewhere"))

    def process(self, day: date, **settings: object) -> None:
        chosen = Settings.load(**settings)
        process_day(day, "AIA", settings=chosen, store=self.store, report=quiet)

    def pack(self, day: date, **settings: object) -> None:
        pack_day(day, settings=Settings.load(**settings), store=self.store, report=quiet)

    def publish(self, **request: object) -> None:
        publish(ReleaseRequest(**request), settings=self.settings, store=self.store, report=quiet)

    def load(self, channels: list[str] = CHANNELS, **options: object) -> SDOMLlite:
        return SDOMLlite(self.root / "shards", channels, **options)

    def split(self) -> None:
        self.load().split(
            {"train": [("2024-03-01", "2024-03-03")], "test": [("2024-03-02", "2024-03-03")]}
        )

    def damage(self, path: str, change: Callable[[bytes], bytes], then: Callable[[], object]):
        """Return a function that changes a file, calls ``then``, and restores the file."""

        def provoke() -> None:
            file = next(self.root.glob(path))
            whole = file.read_bytes()
            file.unlink()  # do not change it in place, because it may be a hard link
            file.write_bytes(change(whole))
            try:
                then()
            finally:
                file.write_bytes(whole)

        return provoke

    def remove(self, path: str, then: Callable[[], object]) -> Callable[[], None]:
        def provoke() -> None:
            file = next(self.root.glob(path))
            aside = self.folder / "aside"
            shutil.move(file, aside)
            try:
                then()
            finally:
                shutil.move(aside, file)

        return provoke

    def bare(self, **options: object) -> SDOMLlite:
        """Open a shard without its index."""
        folder = self.folder / "bare"
        folder.mkdir(exist_ok=True)
        shutil.copy(next(self.root.glob("shards/*/*.tar")), folder)
        return SDOMLlite(folder, CHANNELS, **options)

    def by_hand(self, *members: tuple[str, int]) -> None:
        """Open shards with one member each, for given member names and resolutions."""
        folder = self.folder / f"by-hand-{len(members)}-{members[-1][1]}"
        folder.mkdir()
        for number, (name, side) in enumerate(members):
            pixels = io.BytesIO()
            np.save(pixels, np.zeros((side, side), np.float32))
            with tarfile.open(folder / f"sdoml-lite-{number}.tar", "w") as tar:
                member = tarfile.TarInfo(f"{name}.npy")
                member.size = len(pixels.getvalue())
                tar.addfile(member, io.BytesIO(pixels.getvalue()))
        with warnings.catch_warnings():  # opening shards without indexes causes a warning
            warnings.simplefilter("ignore")
            SDOMLlite(folder, CHANNELS)

    def unfitted(self) -> None:
        """Pack a processed channel that has no constant."""
        before = self.store.read("normalization/current.json")
        alone = fit_store(Settings.load(channels="AIA_0171"), self.store).normalization
        freeze(self.store, alone, replace=True)
        try:
            self.pack(ONE)
        finally:
            self.store.write("normalization/current.json", before)
            self.pack(ONE)

    def unfinished(self) -> None:
        """Open an unfinished release."""
        folder = self.folder / "unfinished"
        folder.mkdir()
        shutil.copy(next(self.root.glob("shards/*/*.tar")), folder)
        shutil.copy(self.root / "normalization/current.json", folder / "normalization.json")
        SDOMLlite(folder, CHANNELS)

    def damaged_index(self, name: str) -> None:
        """Open a shard whose index file contains something else."""
        folder = self.folder / f"with-{name}"
        folder.mkdir()
        shutil.copy(next(self.root.glob("shards/*/*-03-01.tar")), folder)
        (folder / name).write_bytes(b"<html>")
        SDOMLlite(folder, CHANNELS)

    def mix(self, then: Callable[[], object]) -> None:
        before = self.store.read("normalization/current.json")
        other = fit_store(Settings.load(normalization="max"), self.store).normalization
        freeze(self.store, other, replace=True)
        self.pack(OTHER)
        try:
            then()
        finally:
            self.store.write("normalization/current.json", before)
            self.pack(OTHER)

    def all(self) -> Iterator[Callable[[], object]]:
        """Yield a function for each message on the page, in the same order."""
        yield from self.settings_errors()
        yield from frame_errors()
        yield self.absent_frame
        yield lambda: self.fetch(NEVER, "HMI", "http://127.0.0.1:9")
        yield self.fetch_from_elsewhere
        yield from self.upstream_errors()
        yield from self.normalization_errors()
        yield from self.damages()
        yield lambda: Store("/proc/nowhere").write("a/b", b"x")
        yield from self.loader_errors()

    def settings_errors(self) -> Iterator[Callable[[], object]]:
        for name, value in {
            "RESOLUTION": "500",
            "CHANNELS": "AIA_4500",
            "START": "March",
            "END": "2020-01-01",
            "CADENCE_MINUTES": "10",
            "NORMALIZATION": "median",
            "HMI_SCALE": "big",
            "THREADS": "0",
            "CONFIG": "nowhere.toml",
        }.items():
            yield lambda name=name, value=value: with_variable(name, value)
        yield lambda: self.process(ONE, degradation_table="nowhere.txt")
        yield lambda: with_file("resoluton = 256\n")
        yield lambda: with_file("start = \n")
        yield lambda: ReleaseRequest(name="a/b")
        yield lambda: ReleaseRequest(days_per_shard=0)
        yield lambda: ReleaseRequest(days=DayRange(OTHER, ONE))
        yield lambda: config_days(DayRangeConfig(first_day="soon"))
        yield lambda: list(run_days(RunContext(has_partition_key_range=False)))
        yield lambda: list(run_days(RunContext(has_partition_key_range=True)))
        for options in (
            "--select raw_hmi --partition 2024-03-10",
            "--select raw_hmi --partition-range 2024-03-01...2024-03-02",
            "--select release --partition 2024-03-01",
        ):
            yield lambda options=options: on_the_command_line(options)
        yield interrupted
        yield without_the_extra

    def sketches(self) -> object:
        return StoredDay(self.store, ONE).sketches("AIA")

    def absent_frame(self) -> None:
        with ArchiveClient([self.archive.aia_root]) as client:
            client.fetch("2024/03/01/H0000/nothing.fits", lambda data: data)

    def upstream_errors(self) -> Iterator[Callable[[], object]]:
        yield lambda: self.process(NEVER)
        yield lambda: self.process(ONE, channels="AIA_0171,AIA_0304")
        yield lambda: self.pack(NEVER)
        yield lambda: self.pack(ONE, channels="AIA_0171,AIA_0304,HMI_M")
        yield lambda: fit_store(self.settings, Store(str(self.folder / "none")))
        yield lambda: needed_normalization(Store(str(self.folder / "none")))
        yield self.remove("normalization/current.json", lambda: self.pack(ONE))
        yield self.remove("normalization/current.json", lambda: refuse_unasked_fit(self.store))
        yield lambda: self.publish(days=DayRange(first=date(2030, 1, 1)))
        yield self.remove("shards/2024/*03-01.parquet", self.publish)
        # Change the settings, because an unchanged day is not processed or packed again.
        changed = {"max_missing_fraction": 0.04}
        yield self.remove("raw/2024/03/01/*_0171.fits", lambda: self.process(ONE, **changed))
        yield self.remove("processed/2024/03/01/aia.sketch.arrow", self.sketches)

    def normalization_errors(self) -> Iterator[Callable[[], object]]:
        yield lambda: self.pack(ONE, resolution=128)
        yield lambda: fit_store(Settings.load(resolution=128), self.store)
        yield lambda: self.mix(self.publish)
        yield lambda: self.mix(self.load)
        yield self.damage(
            "normalization/current.json",
            lambda data: data.replace(b'"days": 2', b'"days": 7'),
            lambda: self.pack(ONE),
        )
        yield self.unfitted
        yield lambda: self.bare(units="dn")

    def damages(self) -> Iterator[Callable[[], object]]:
        cut = lambda data: data[:-512]  # noqa: E731
        yield self.damage(
            "raw/2024/03/01/*_0171.fits",
            cut,
            lambda: self.process(ONE, max_missing_fraction=0.04),
        )
        yield self.damage(
            "processed/2024/03/01/AIA_0171.npy", cut, lambda: self.pack(ONE, dtype="float16")
        )
        yield self.damage("processed/2024/03/01/aia.parquet", cut, lambda: self.pack(ONE))
        yield self.damage("processed/2024/03/01/aia.sketch.arrow", cut, self.sketches)
        shard = "shards/2024/*03-01.tar"
        yield self.damage(shard, cut, self.publish)
        yield self.damage(shard, cut, lambda: self.load()[0])
        yield self.damage(
            shard, lambda data: data.replace(b"NUMPY", b"numpy"), lambda: self.load()[0]
        )
        dataset = self.load()
        place = int(dataset.reader.offsets[dataset.rows[0], 0]) + 5000
        yield self.damage(
            shard,
            lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :],
            lambda: self.load(verify=True)[0],
        )

    def change_the_world(self) -> None:
        iterator = iter(BatchSampler(self.load(), 1))
        next(iterator)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.distributed, "is_initialized", lambda: True)
            patch.setattr(torch.distributed, "get_world_size", lambda: 2)
            patch.setattr(torch.distributed, "get_rank", lambda: 1)
            next(iterator)

    def ask_a_stream_that_workers_read(self) -> None:
        stream = ShardDataset(self.load(), batch_size=1)
        list(DataLoader(stream, batch_size=None, num_workers=1))
        stream.state_dict()

    def loader_errors(self) -> Iterator[Callable[[], object]]:
        yield lambda: SDOMLlite(self.folder / "nowhere", CHANNELS)
        yield lambda: SDOMLlite(self.root, CHANNELS)
        yield lambda: SDOMLlite(self.root / "normalization/current.json", CHANNELS)
        yield self.unfinished
        yield lambda: self.damaged_index("index.parquet")
        yield lambda: self.damaged_index("sdoml-lite-2024-03-01.parquet")
        yield lambda: self.by_hand(("2024/03/01/0000.AIA_0171", 64), ("2024/03/01/0015.HMI_M", 32))
        yield lambda: SDOMLlite("http://127.0.0.1:9/shards", CHANNELS)
        yield lambda: self.load(["AIA_4500"])
        yield lambda: self.load(["AIA_0304"])
        yield lambda: self.load(date_start="2024-03-02", date_end="2024-03-01")
        yield lambda: self.load(date_start="2030-01-01")
        yield lambda: self.by_hand(("2024/03/01/0000.AIA_0171", 64), ("2024/03/01/0015.HMI_M", 64))
        yield lambda: self.load(date_exclusions=[("2024-03-01", "2024-04-01")])
        yield lambda: self.load()["yesterday"]
        yield lambda: self.load()["2024-03-01T00:07"]
        yield lambda: self.load(units="kelvin")
        yield lambda: self.load(["AIA_0171"], units="gauss")
        yield lambda: self.load().split({"train": ("2024-03-01", "2024-03-02")})
        yield lambda: self.bare(verify=True)
        yield lambda: SDOMLliteSequences(self.load(), past=2, gaps="hold")
        yield lambda: SDOMLliteSequences(self.load(), past=99, stride=timedelta(hours=6))
        yield lambda: SDOMLliteSequences(self.load(), past=2, stride=6)
        hole = self.load(date_exclusions=[("2024-03-01T12:00", "2024-03-01T12:01")])
        yield lambda: SDOMLliteSequences(hole, past=2, gaps="raise")
        other = BatchSampler(self.load(), 2, seed=1)
        yield lambda: BatchSampler(self.load(), 2).load_state_dict(other.state_dict())
        yield lambda: BatchSampler(self.load(), 2).load_state_dict({})
        yield self.change_the_world
        yield self.ask_a_stream_that_workers_read
        yield lambda: SDOMLlite("foo://bar/shards", CHANNELS)
        yield self.split


def frame_errors() -> Iterator[Callable[[], object]]:
    aia, hmi = AIA.read_bytes(), HMI.read_bytes()
    yield lambda: decode_aia(b"")
    yield lambda: decode_aia(b"<!DOCTYPE html><html>")
    yield lambda: decode_hmi(b"<html>")
    yield lambda: decode_aia(aia[:500_000])
    yield lambda: decode_hmi(hmi[:200_000])
    yield lambda: decode_aia(aia[:700_000] + bytes([aia[700_000] ^ 255]) + aia[700_001:])
    yield lambda: decode_hmi(jpeg(512))
    yield lambda: complain(quality_reason(1 << 13))
    yield lambda: decode_hmi(jpeg(1024))


def jpeg(side: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (side, side)).save(sink, "JPEG")
    return sink.getvalue()


def complain(reason: str | None) -> None:
    raise SdomlError(reason)


@dataclass(frozen=True)
class RunContext:
    """Context of a run without a day or with an empty range."""

    has_partition_key_range: bool
    has_partition_key: bool = False
    partition_keys: tuple[str, ...] = ()


def on_the_command_line(options: str) -> None:
    command = ["asset", "materialize", "-m", "sdoml_dagster.definitions", *options.split()]
    done = run_module("dagster", *command, env=os.environ | {"SDOML_END": "2024-03-10"})
    raise SdomlError(done.stderr.strip())


def interrupted() -> None:
    try:
        with failures_explained():
            raise KeyboardInterrupt
    except InterruptedRunError as error:
        raise SdomlError(str(error)) from None


def without_the_extra() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "botocore.exceptions", None)  # simulate a missing package
        Store("s3://bucket")


def with_variable(name: str, value: str) -> None:
    before = os.environ.get(f"SDOML_{name}")
    os.environ[f"SDOML_{name}"] = value
    try:
        Settings.load()
    finally:
        os.environ.pop(f"SDOML_{name}")
        if before is not None:
            os.environ[f"SDOML_{name}"] = before


def with_file(text: str) -> None:
    Path("sdoml.toml").write_text(text)
    try:
        Settings.load()
    finally:
        Path("sdoml.toml").unlink()


@pytest.mark.filterwarnings("ignore:the 2 shards in .* have no index")
def test_documented_error_messages_match_the_real_ones(
    environment: dict[str, str], archive: Archive, tmp_path: Path
) -> None:
    assert datetime(2024, 3, 1, tzinfo=UTC) == Settings.load().start
    said = []
    for provoke in Provoker(tmp_path, archive).all():
        try:
            provoke()
        except (SdomlError, FrameMissingError) as error:
            said.append(str(error))
        else:
            pytest.fail(f"the step after this message raised no error: {said[-1]}")
    patterns = documented()
    assert [line for line in said if not any(p.fullmatch(line) for p in patterns)] == []
    assert [p.pattern for p in patterns if not any(p.fullmatch(line) for line in said)] == []
