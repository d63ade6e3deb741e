"""The maintenance jobs that verify and prune a store."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sdoml_core.errors import MissingInputError
from sdoml_core.formats.ledger import RAW_LEDGER
from sdoml_dagster.days import DayRange
from sdoml_dagster.maintenance.prune import prune_raw
from sdoml_dagster.maintenance.verify import Verification, move_aside, verify_day, verify_store
from sdoml_dagster.pipeline.completeness import is_complete
from sdoml_dagster.release.build import ReleaseRequest, publish
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo.server import Archive
from tests.support.day_deployment import DAY, Deploy, Deployment
from tests.support.runs import DAILY, Materialize


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for the store that the first test builds and other tests copy."""
    return tmp_path_factory.mktemp("maintenance") / "store"


@pytest.fixture
def day(archive: Archive, deploy: Deploy, template: Path) -> Deployment:
    built = deploy(archive)
    if template.exists():
        shutil.copytree(template, built.folder)
    else:
        built.build()
        shutil.copytree(built.folder, template)
    return built


def verify(deployment: Deployment) -> Verification:
    return verify_store(deployment.store, threads=2, report=deployment.lines.append)


def flip(path: Path) -> None:
    """Flip one bit of a file, or change 256 bytes of a table.

    A single bit of a table may be in the column statistics, which are ignored when rows are read.
    """
    data = bytearray(path.read_bytes())
    start = len(data) // 4
    for position in range(start, start + (256 if path.suffix == ".parquet" else 1)):
        data[position] ^= 1
    path.write_bytes(data)


def test_intact_store_passes_verification(day: Deployment) -> None:
    outcome = verify(day)
    assert outcome.damages == []
    assert outcome.files == len(day.files())
    assert outcome.bytes == sum(path.stat().st_size for path in day.folder.rglob("*.*"))


RAW, PROCESSED = "raw/2024/03/08/", "processed/2024/03/08/"
REMEDIES = {
    RAW + "AIA20240308_0600_0171.fits": "raw_aia of 2024-03-08",
    RAW + "20240308_060000_M_1k.jpg": "raw_hmi of 2024-03-08",
    RAW + "aia.parquet": "raw_aia of 2024-03-08",
    PROCESSED + "AIA_0171.npy": "processed_aia of 2024-03-08",
    PROCESSED + "HMI_M.npy": "processed_hmi of 2024-03-08",
    PROCESSED + "hmi.sketch.arrow": "processed_hmi of 2024-03-08",
    PROCESSED + "aia.parquet": "processed_aia of 2024-03-08",
    "shards/2024/sdoml-lite-2024-03-08.tar": "shards of 2024-03-08",
    "shards/2024/sdoml-lite-2024-03-08.parquet": "shards of 2024-03-08",
    "normalization/current.json": "normalization_stats",
}


@pytest.mark.parametrize(
    ("name", "harm"),
    [(name, flip) for name in REMEDIES]
    # Tables and constants are not deleted, because a day without them counts as not built.
    + [(name, Path.unlink) for name in REMEDIES if not name.endswith((".parquet", ".json"))],
)
def test_damaged_file_is_found_marked_and_repaired(
    name: str, harm: Callable[[Path], Any], day: Deployment
) -> None:
    expected = day.files()
    path = day.folder / name
    harm(path)
    found = verify(day).damages
    absent = not path.exists()
    assert [(damage.path, damage.remedy) for damage in found] == [(name, REMEDIES[name])]
    move_aside(day.store, found)
    assert not path.exists()
    assert (day.folder / "damaged" / name).exists() != absent
    if name.startswith("shards"):
        assert not is_complete(day.settings, StoredDay(day.store, DAY))
    day.build()
    remade = {key: sha for key, sha in day.files().items() if not key.startswith("damaged/")}
    assert remade == expected
    assert verify(day).damages == []


def test_truncated_frames_and_renamed_constants_are_detected(day: Deployment) -> None:
    cut, empty = (day.folder / PROCESSED / f"{name}.npy" for name in ("AIA_0171", "HMI_M"))
    cut.write_bytes(cut.read_bytes()[:-1001])
    empty.write_bytes(b"")
    (version,) = (p for p in (day.folder / "normalization").iterdir() if p.name != "current.json")
    version.rename(version.with_name("0123456789ab.json"))
    assert [(damage.path, damage.reason) for damage in verify(day).damages] == [
        (PROCESSED + cut.name, f"{cut.stat().st_size} bytes is the wrong size for 4 frames"),
        (PROCESSED + empty.name, "0 bytes is the wrong size for 4 frames"),
        (
            "normalization/0123456789ab.json",
            f"the file contains the constants of version {version.stem}",
        ),
    ]


@pytest.fixture
def released(day: Deployment) -> Deployment:
    publish(ReleaseRequest(), settings=day.settings, store=day.store, report=print)
    assert verify(day).damages == []
    return day


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda sums: b"", "no checksum for index.parquet, normalization.json, sdoml-lite-1.tar"),
        (
            lambda sums: b"".join(sums.splitlines(keepends=True)[:-1]),
            "no checksum for sdoml-lite-1.tar",
        ),
        (lambda sums: sums + b"0  ../../raw\n", "invalid line '0  ../../raw'"),
        (lambda sums: sums + b"0\n", "invalid line '0'"),
    ],
)
def test_incomplete_or_unsafe_checksum_files_are_reported_as_damaged(
    released: Deployment, change: Callable[[bytes], bytes], said: str
) -> None:
    sums = released.folder / "releases/sdoml-lite/SHA256SUMS"
    sums.write_bytes(change(sums.read_bytes()))
    (damage,) = verify(released).damages
    assert (damage.path, damage.reason) == ("releases/sdoml-lite/SHA256SUMS", said)
    assert damage.remedy == "release sdoml-lite"


def test_linked_shards_are_read_once(released: Deployment) -> None:
    cache = released.folder / "cache"  # not verified, because damaged cache files are rebuilt
    files = [
        path
        for path in released.folder.rglob("*.*")
        if path.is_file() and not path.is_relative_to(cache)
    ]
    inodes = {path.stat().st_ino: path.stat().st_size for path in files}
    outcome = verify(released)
    assert outcome.bytes == sum(inodes.values())
    assert outcome.files == len(files)


@pytest.mark.parametrize(("other_day", "found"), [(0, 1), (1, 0)])
def test_release_shards_of_other_days_are_not_read(
    released: Deployment, other_day: int, found: int
) -> None:
    shard = released.folder / "releases/sdoml-lite/sdoml-lite-1.tar"
    data = shard.read_bytes()
    shard.unlink()  # replace the hard link, so that flip does not damage the daily shard
    shard.write_bytes(data)
    flip(shard)
    day = DAY + timedelta(days=other_day)
    outcome = verify_store(released.store, days=DayRange(day, day), threads=1, report=print)
    assert len(outcome.damages) == found


def test_both_damaged_versions_of_a_file_are_kept(day: Deployment) -> None:
    frame = next((day.folder / RAW).glob("*.fits"))
    for content in (b"first", b"second"):
        frame.write_bytes(content)
        move_aside(day.store, verify(day).damages)
    kept = sorted((day.folder / "damaged" / RAW).glob("*.fits*"))
    assert [path.read_bytes() for path in kept] == [b"first", b"second"]


def test_file_that_is_being_rewritten_is_checked_again(
    day: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = layout.shard_index(DAY)
    whole = day.store.read(index)
    day.store.write(index, b"cut")
    looked = []

    def look(store: Store, day_: date) -> Verification:
        looked.append(day_)
        found = verify_day(store, day_)
        store.write(index, whole)  # meanwhile, another run publishes the file
        return found

    monkeypatch.setattr("sdoml_dagster.maintenance.verify.verify_day", look)
    assert verify(day).damages == []
    assert looked == [DAY, DAY]


def test_pruning_is_a_dry_run_by_default_and_keeps_ledgers(
    day: Deployment, archive: Archive
) -> None:
    before = day.files()
    dry = prune_raw(day.store, days=DayRange(last=DAY), dry_run=True, report=day.lines.append)
    assert day.files() == before
    assert [(outcome.day, outcome.files) for outcome in dry] == [(DAY, 12)]
    real = prune_raw(day.store, days=DayRange(last=DAY), dry_run=False, report=day.lines.append)
    assert real == dry
    assert {name for name in before if name not in day.files()} == {
        name for name in before if name.endswith((".fits", ".jpg"))
    }
    assert verify(day).damages == [], "pruned raw frames must not count as damage"
    assert (
        prune_raw(day.store, days=DayRange(last=DAY), dry_run=False, report=day.lines.append) == []
    )
    day.process()  # needs no raw frames, because the processed day is unchanged
    changed = day.settings.model_copy(update={"max_missing_fraction": 0.04})
    with pytest.raises(MissingInputError, match="materialize the raw assets of 2024-03-08"):
        Deployment(changed).process()
    asked = len(archive.log.requests)
    day.build()
    assert len(archive.log.requests) - asked == 12
    assert day.files() == before


def test_pruning_many_days_prints_few_lines(day: Deployment) -> None:
    for number in range(1, 30):  # these days have only raw frames
        later = layout.raw_folder(DAY + timedelta(days=number))
        shutil.copytree(day.folder / RAW, day.folder / later)
    lines: list[str] = []
    prune_raw(day.store, days=DayRange(), dry_run=True, report=lines.append)
    assert len(lines) <= 5
    assert lines[-1] == (
        "prune_raw: kept the raw frames of 2024-03-09 … 2024-04-06, because there is no shard"
    )


def test_raw_frames_are_kept_for_days_that_need_them(
    day: Deployment, archive: Archive, deploy: Deploy
) -> None:
    def reason(deployment: Deployment) -> str:
        (outcome,) = prune_raw(
            deployment.store, days=DayRange(last=DAY), dry_run=False, report=print
        )
        return str(outcome.kept_because)

    assert (
        prune_raw(day.store, days=DayRange(last=date(2024, 3, 7)), dry_run=False, report=print)
        == []
    )
    shard = day.folder / "shards/2024/sdoml-lite-2024-03-08.tar"
    flip(shard)
    assert "its SHA-256 differs from the recorded one" in reason(day)
    shard.unlink()
    assert "is missing" in reason(day)
    day.pack()
    before = len(list((day.folder / "raw").rglob("*.fits")))
    fewer = day.settings.model_copy(update={"channels": ("AIA_0171", "HMI_M")})
    whole, day.settings = day.settings, fewer
    day.pack()
    assert "the shard lacks 4 frames (first: AIA_1700 at 00:00)" in reason(day)
    assert len(list((day.folder / "raw").rglob("*.fits"))) == before
    day.settings = whole
    unpacked = deploy(archive)
    unpacked.fetch()
    assert reason(unpacked) == "there is no shard"
    ledger = unpacked.folder / RAW / "hmi.parquet"
    first, *others = RAW_LEDGER.decode(ledger.read_bytes())
    ledger.write_bytes(RAW_LEDGER.encode([replace(first, status="outage", file=None), *others]))
    assert reason(unpacked) == "1 frame must still be fetched"
    ledger.write_bytes(ledger.read_bytes()[:-9])
    assert reason(unpacked).endswith("materialize raw_hmi of 2024-03-08 again")
    assert len(list((unpacked.folder / RAW).iterdir())) == 12 + 2, "no file may be removed"


def test_maintenance_jobs_run_and_fail_on_damage(
    materialize: Materialize, environment: dict[str, str], instance: dg.DagsterInstance
) -> None:
    from sdoml_dagster.definitions import build_defs
    from sdoml_dagster.settings.model import Settings

    assert materialize(*DAILY, "normalization_stats", day="2024-03-08").success
    assert materialize("release").success
    defs = build_defs(Settings.load())

    def run(job: str, **config: Any) -> dg.ExecuteInProcessResult:
        op = job.partition("_")[0]
        return defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={"ops": {op: {"config": config}}},
        )

    store = Path(environment["SDOML_STORE"])
    assert run("verify_store").success
    assert run("prune_raw").success
    assert list(store.rglob("*.fits")), "pruning must be a dry run by default"
    released = next(store.glob("releases/*/*.tar"))
    flip(released)
    assert not run("verify_store", mark=False).success
    assert released.exists(), "with mark=False, damaged files must not be moved"
    failed = run("verify_store")
    assert not failed.success
    assert not released.exists()
    (event,) = failed.get_step_failure_events()
    assert event.step_failure_data.user_failure_data is not None
    said = str(event.step_failure_data.user_failure_data.description)
    assert "release sdoml-lite" in said
    assert "shards of 2024-03-08" in said, "the damage is shared through a hard link"
    assert materialize("shards", day="2024-03-08").success
    assert materialize("release").success
    assert run("verify_store").success
    assert run("prune_raw", dry_run=False).success
    assert not list(store.rglob("*.fits"))
    assert run("verify_store").success


def test_empty_store_is_not_reported_as_intact(
    environment: dict[str, str], instance: dg.DagsterInstance
) -> None:
    from sdoml_dagster.definitions import build_defs
    from sdoml_dagster.settings.model import Settings

    job = build_defs(Settings.load()).resolve_job_def("verify_store")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    (event,) = result.get_step_failure_events()
    assert event.step_failure_data.user_failure_data is not None
    said = str(event.step_failure_data.user_failure_data.description)
    assert said.endswith(f"Check SDOML_STORE={environment['SDOML_STORE']}")
