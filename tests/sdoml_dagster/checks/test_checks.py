"""Checks pass on good days and report the problems of other days with the right severity."""

import gc
import io
import re
import shutil
import tarfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import webdataset
from numpy.typing import NDArray
from PIL import Image

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import MissingInputError
from sdoml_core.formats.ledger import FRAME_TABLE, FrameRow
from sdoml_core.formats.release_files import RELEASE_INDEX
from sdoml_core.frames.flags import flag_mask
from sdoml_core.slots import day_slots
from sdoml_dagster.checks.processed import (
    UNEXPLAINED,
    judge_coverage,
    judge_disk,
    judge_flags,
    judge_values,
)
from sdoml_dagster.checks.release import judge_releases
from sdoml_dagster.checks.shards import judge_drift, judge_saturation, judge_shard
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from tests.support.runs import DAILY, Materialize

DAY = date(2024, 3, 8)
NAMES = (*DAILY, "normalization_stats")


@pytest.fixture
def store(built: dg.DagsterInstance, settings: Settings) -> Store:
    return Store(settings.store)


def rows(found: int, expected: int = 4, channel: str = "AIA_0171") -> list[FrameRow]:
    slots = day_slots(DAY, cadence_minutes=24 * 60 // expected)
    return [FrameRow(s, channel, "ok" if n < found else "missing") for n, s in enumerate(slots)]


def test_good_day_passes_every_check(
    materialize: Materialize, findings: Callable[..., dict[tuple[str, str], Any]]
) -> None:
    found = findings(materialize(*NAMES, day=str(DAY)))
    checks = [
        f"processed_{i}.{n}"
        for i in ("aia", "hmi")
        for n in ("coverage", "values", "disk", "flags")
    ]
    checks += [f"shards.{name}" for name in ("readable", "saturation", "drift")]
    assert set(found) == {(name, str(DAY)) for name in checks} | {("shards.freshness", "None")}
    del found["shards.freshness", "None"]  # fails, because newer days of the dataset are missing
    assert all(e.passed for e in found.values()), [e.description for e in found.values()]


def run_check(
    instance: dg.DagsterInstance, asset: str, name: str, day: date
) -> dg.ExecuteInProcessResult:
    """Run one check alone, as the UI does."""
    key = dg.AssetCheckKey(dg.AssetKey(asset), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        jobs = build_defs(Settings.load()).resolve_implicit_global_asset_job_def()
        job = jobs.get_subset(asset_selection=set(), asset_check_selection={key})
        return job.execute_in_process(
            instance=instance, partition_key=str(day), raise_on_error=False
        )


def test_checks_can_be_run_separately(
    built: dg.DagsterInstance, findings: Callable[..., dict[tuple[str, str], Any]]
) -> None:
    result = run_check(built, "processed_aia", "coverage", DAY)
    assert result.success
    assert set(findings(result)) == {("processed_aia.coverage", str(DAY))}


@pytest.mark.parametrize(
    ("asset", "name", "said"),
    [
        ("processed_aia", "values", "processed_aia of 2024-03-10 is not in"),
        ("shards", "readable", "is missing: materialize shards of 2024-03-10"),
    ],
)
def test_check_reports_that_a_day_is_not_built(
    built: dg.DagsterInstance, asset: str, name: str, said: str
) -> None:
    result = run_check(built, asset, name, date(2024, 3, 10))
    assert result.success, "a failed check must not fail its run"
    (found,) = result.get_asset_check_evaluations()
    assert not found.passed
    assert found.severity == dg.AssetCheckSeverity.ERROR
    assert said in str(found.description)


def test_day_without_expected_frames_passes_coverage(settings: Settings) -> None:
    finding = judge_coverage([], settings)
    assert (finding.passed, finding.description) == (True, "no frames are expected")


@pytest.mark.parametrize(
    ("frames", "passed", "severe"), [(4, True, False), (3, False, False), (1, False, True)]
)
def test_low_coverage_is_a_warning_and_very_low_coverage_an_error(
    settings: Settings, frames: int, passed: bool, severe: bool
) -> None:
    finding = judge_coverage(rows(4, channel="HMI_M") + rows(frames), settings)
    assert (finding.passed, finding.severe) == (passed, severe)
    assert passed or "AIA_0171" in finding.description


@pytest.mark.parametrize("found", [0, 1])
def test_archive_gap_is_a_coverage_warning(settings: Settings, found: int) -> None:
    finding = judge_coverage(rows(found) + rows(0, channel="AIA_1700"), settings)
    assert not finding.passed
    assert finding.severity == dg.AssetCheckSeverity.WARN
    assert "gap" in finding.description


def test_damaged_frames_are_a_coverage_error(settings: Settings) -> None:
    damaged = [replace(row, status="invalid") for row in rows(0)]
    assert judge_coverage(damaged, settings).severity == dg.AssetCheckSeverity.ERROR


def test_values_check_finds_a_flipped_bit(store: Store, settings: Settings) -> None:
    table = StoredDay(store, DAY).frame_table("AIA") or []
    assert judge_values(store, DAY, table, settings).passed
    path = Path(settings.store, "processed/2024/03/08/AIA_0171.npy")
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    finding = judge_values(store, DAY, table, settings)
    assert not finding.passed
    assert finding.severe
    assert "AIA_0171 00:00" in finding.description


@pytest.mark.parametrize(
    ("channel", "value"),
    [("HMI_M", -0.1), ("HMI_M", 1.5), ("AIA_0171", 2e7), ("AIA_0171", np.nan), ("AIA_0171", None)],
)
def test_values_check_finds_impossible_pixels(
    store: Store, settings: Settings, channel: str, value: float | None
) -> None:
    def spoil(frame: NDArray[np.float32]) -> NDArray[np.float32]:
        frame[3, 3] = value if value is not None else 0
        return frame if value is not None else frame * 0

    table = rewritten(store, channel, spoil)
    finding = judge_values(store, DAY, table, settings)
    assert not finding.passed
    assert finding.severe
    assert f"{channel} 00:00: values range from " in finding.description
    assert finding.metadata["frames_wrong"] == 4


def rewritten(
    store: Store,
    channel: str,
    change: Callable[[NDArray[np.float32]], Any],
    number: int | None = None,
) -> list[FrameRow]:
    """Rewrite one or all processed frames of a channel and update the frame table."""
    instrument = CHANNELS[channel].instrument
    table = StoredDay(store, DAY).frame_table(instrument) or []
    path = store.local_path(layout.processed_frames(DAY, CHANNELS[channel]))
    assert path is not None
    frames = np.stack(
        [change(f) if number in {None, n} else f for n, f in enumerate(np.load(path))]
    ).astype(np.float32)
    np.save(path, frames)
    return [
        replace(row, crc32=zlib.crc32(frames[row.row].data))
        if row.channel == channel and row.row is not None
        else row
        for row in table
    ]


def test_disk_check_names_unreadable_frames_and_measures_the_others(
    store: Store, settings: Settings
) -> None:
    table = StoredDay(store, DAY).frame_table("AIA") or []
    Path(settings.store, "processed/2024/03/08/AIA_0171.npy").unlink()
    finding = judge_disk(store, DAY, table, settings)
    assert not finding.passed
    assert finding.severe
    assert "AIA_0171 12:00: " in finding.description
    assert "AIA_1700" not in finding.description
    assert set(finding.metadata) == {"radius_AIA_1700", "offset_AIA_1700"}


def larger(frame: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Enlarge the disk by a tenth about its center."""
    image = Image.fromarray(frame).resize((70, 70), Image.Resampling.BICUBIC)
    return np.asarray(image)[3:-3, 3:-3]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda f: np.roll(f, 3, axis=1), "from the middle (+3"),
        (lambda f: np.kron(f, np.ones((2, 2)))[32:-32, 32:-32], "no disk|radius|middle"),
        (larger, r"radius is 10\d\d″, not 976″"),
        (lambda f: np.full_like(f, 0.5), "no disk"),
    ],
    ids=["shifted", "twice as large", "larger", "no Sun"],
)
def test_disk_check_finds_a_displaced_or_scaled_sun(
    store: Store, settings: Settings, change: Callable[..., Any], complaint: str
) -> None:
    assert judge_disk(store, DAY, StoredDay(store, DAY).frame_table("HMI") or [], settings).passed
    finding = judge_disk(store, DAY, rewritten(store, "HMI_M", change), settings)
    assert not finding.passed
    assert re.search(complaint.replace("(+", r"\(\+"), finding.description), finding.description


def test_disk_check_covers_every_frame(store: Store, settings: Settings) -> None:
    table = rewritten(store, "AIA_1700", lambda f: np.roll(f, 3, axis=1), number=0)
    finding = judge_disk(store, DAY, table, settings)
    assert re.findall(r"AIA_1700 (\d\d:\d\d): the center is 3", finding.description) == ["00:00"]


def test_disk_check_skips_partial_disks(store: Store, settings: Settings) -> None:
    table = rewritten(store, "AIA_1700", lambda f: np.roll(f, 3, axis=1), number=0)
    shown = [replace(row, visible=0.5) if row.slot.hour == 0 else row for row in table]
    assert judge_disk(store, DAY, shown, settings).passed


def test_disk_check_uses_the_hmi_scale(store: Store, settings: Settings) -> None:
    other = settings.model_copy(update={"hmi_scale": 0.85})
    process_day(DAY, "HMI", settings=other, store=store, report=print)
    table = StoredDay(store, DAY).frame_table("HMI") or []
    finding = judge_disk(store, DAY, table, other)
    assert finding.passed, finding.description
    assert finding.metadata["radius_HMI_M"] == pytest.approx(976 * 0.85 / (2.0168 / 2.4), rel=0.01)


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_unexplained_flags_cause_a_warning(store: Store, name: str) -> None:
    table = StoredDay(store, DAY).frame_table("AIA") or []
    assert judge_flags(store, DAY, table).passed
    flagged = [replace(table[0], flags=flag_mask([name])), *table[1:]]
    finding = judge_flags(store, DAY, flagged)
    assert not finding.passed
    assert not finding.severe
    assert f"AIA_0171 00:00 is flagged {name}" in finding.description
    assert finding.metadata[f"flagged_{name}"] == 1


def test_flags_with_a_known_cause_are_only_counted(store: Store) -> None:
    table = StoredDay(store, DAY).frame_table("AIA") or []
    flagged = [replace(row, flags=flag_mask(["provisional"])) for row in table]
    finding = judge_flags(store, DAY, flagged)
    assert finding.passed
    assert finding.metadata["flagged_provisional"] == len(table)


def test_brightness_change_between_days_causes_a_warning(store: Store) -> None:
    table = StoredDay(store, DAY).frame_table("AIA") or []
    finding = judge_flags(store, DAY, table)
    # Without an earlier day, brightness is not compared.
    assert not any(key.startswith("brightness") for key in finding.metadata)
    yesterday = DAY - timedelta(days=1)
    brighter = [
        replace(row, slot=row.slot - timedelta(days=1), level=3 * (row.level or 0))
        if row.channel == "AIA_0171"
        else replace(row, slot=row.slot - timedelta(days=1))
        for row in table
    ]
    store.write(layout.frame_table(yesterday, "AIA"), FRAME_TABLE.encode(brighter))
    finding = judge_flags(store, DAY, table)
    assert finding.description == "AIA_0171 is 0.33 times as bright as on the previous days"
    assert finding.metadata["brightness_AIA_1700"] == 1


# See gc.collect() below.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_shard_matches_what_webdataset_reads(store: Store, settings: Settings) -> None:
    finding = judge_shard(store, DAY, settings)
    assert finding.passed, finding.description
    path = Path(settings.store, "shards/2024/sdoml-lite-2024-03-08.tar")
    samples = list(webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False))
    gc.collect()  # webdataset does not close its files, and the garbage collector warns about them
    assert finding.metadata["samples"] == len(samples) == 4
    channels = [key for sample in samples for key in sample if key.endswith(".npy")]
    assert finding.metadata["frames"] == len(channels) == 12


def rewrite(
    path: Path, edit: Callable[[list[tuple[str, bytes]]], list[tuple[str, bytes | None]]]
) -> None:
    """Rewrite a tar file with edited members. A member whose data is None becomes a folder."""
    with tarfile.open(path) as tar:
        members = [(i.name, tar.extractfile(i).read()) for i in tar]  # type: ignore[union-attr]
    with tarfile.open(path, "w") as tar:
        for name, data in edit(members):
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))


def nan(member: tuple[str, bytes]) -> tuple[str, bytes]:
    pixels = np.load(io.BytesIO(member[1]))
    pixels[3, 3] = np.nan
    out = io.BytesIO()
    np.save(out, pixels)
    return member[0], out.getvalue()


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda m: m[1:], "is missing"),
        (lambda m: [(m[0][0], m[1][1]), (m[1][0], m[0][1]), *m[2:]], "different from the index"),
        (lambda m: [m[1], *m[2:], m[0]], "samples are split"),
        (lambda m: [*m, m[0]], "occurs twice"),
        (lambda m: [nan(m[0]), *m[1:]], "outside [0, 1]"),
        (lambda m: [(m[0][0], b"no array"), *m[1:]], "is not a .npy file"),
        (lambda m: [("2024", None), *m], "2024 is not a file"),
        (lambda m: m, "SHA-256"),
    ],
    ids=["missing", "exchanged", "torn", "twice", "NaN", "no array", "folder", "other padding"],
)
def test_shard_that_differs_from_its_index_is_an_error(
    store: Store, settings: Settings, edit: Callable[..., Any], complaint: str
) -> None:
    path = Path(settings.store, "shards/2024/sdoml-lite-2024-03-08.tar")
    data = path.read_bytes()
    rewrite(path, edit)
    if path.read_bytes() == data:
        path.write_bytes(data + bytes(512))
    finding = judge_shard(store, DAY, settings)
    assert not finding.passed
    assert finding.severe
    assert complaint in finding.description


def test_truncated_shard_is_an_error(store: Store, settings: Settings) -> None:
    path = Path(settings.store, "shards/2024/sdoml-lite-2024-03-08.tar")
    path.write_bytes(path.read_bytes()[:30_000])
    assert not judge_shard(store, DAY, settings).passed


def test_saturation_and_drift_are_compared_with_the_constants(
    store: Store, settings: Settings, materialize: Materialize
) -> None:
    assert judge_saturation(store, DAY, settings).passed
    assert judge_drift(store, DAY, settings).passed
    from sdoml_core.normalization.fit import fit
    from sdoml_core.normalization.sketch import Sketch
    from sdoml_dagster.pipeline.frozen_constants import freeze

    dim = {
        name: Sketch.of(np.load(Path(settings.store, f"processed/2024/03/08/{name}.npy")) / scale)
        for name, scale in {"AIA_0171": 10, "AIA_1700": 1, "HMI_M": 1}.items()
        if name in CHANNELS
    }
    other = fit(
        dim, method=settings.normalization, resolution=64, first_day=DAY, last_day=DAY, days=1
    )
    freeze(store, other, replace=True)
    saturation, drift = judge_saturation(store, DAY, settings), judge_drift(store, DAY, settings)
    assert not saturation.passed
    assert not drift.passed
    assert "AIA_0171" in saturation.description
    assert drift.metadata["drift_AIA_0171"] == pytest.approx(10, rel=0.02)
    assert drift.metadata["drift_AIA_1700"] == pytest.approx(1, rel=0.02)
    assert saturation.severity == dg.AssetCheckSeverity.WARN


def test_drift_does_not_depend_on_the_disk_size() -> None:
    from sdoml_core.normalization.fit import fit
    from sdoml_core.normalization.sketch import Sketch
    from sdoml_dagster.pipeline.compare_to_fit import compare_sketch

    def disk(radius: float) -> Sketch:
        rows, columns = np.mgrid[:128, :128] - 63.5
        return Sketch.of(np.where(np.hypot(rows, columns) < radius * 128, 0.5, 0).astype("f4"))

    other = fit(
        {"HMI_M": disk(0.41)}, method="max", resolution=128, first_day=DAY, last_day=DAY, days=1
    )
    small = disk(0.39)
    assert small.quantile(0.5) == 0  # more than half of the pixels are sky
    compared = compare_sketch(small, other, "HMI_M")
    assert compared is not None
    assert compared.drift == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize("judge", [judge_saturation, judge_drift])
def test_checks_fail_without_constants(
    store: Store, settings: Settings, judge: Callable[..., Any]
) -> None:
    store.delete("normalization/current.json")
    with pytest.raises(MissingInputError, match="is missing, but there are shards: restore it"):
        judge(store, DAY, settings)


def test_release_has_one_normalization(
    store: Store, settings: Settings, materialize: Materialize, findings: Callable[..., Any]
) -> None:
    found = findings(materialize("release"))
    assert found["release.one_normalization", "None"].passed
    folder = Path(settings.store, "releases/sdoml-lite")
    shutil.copy(folder / "normalization.json", folder / "kept.json")
    fitted = materialize("normalization_stats", config=None, normalization="max")
    assert fitted.success
    shutil.copy(Path(settings.store, "normalization/current.json"), folder / "normalization.json")
    assert "make the release again" in judge_releases(store)[0]


def test_release_without_its_constants_is_reported(
    store: Store, settings: Settings, materialize: Materialize
) -> None:
    assert materialize("release").success
    assert judge_releases(store) == []
    store.delete("releases/sdoml-lite/normalization.json")
    (wrong,) = judge_releases(store)
    assert wrong.startswith("sdoml-lite: ")
    assert "normalization.json" in wrong


def test_release_check_reads_only_the_footer_of_the_index(
    store: Store, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert materialize("release").success
    read = Store.read

    def read_other_files(opened: Store, path: str) -> bytes:
        assert not path.endswith(RELEASE_INDEX), "the index of a long release is large"
        return read(opened, path)

    monkeypatch.setattr(Store, "read", read_other_files)
    assert judge_releases(store) == []
