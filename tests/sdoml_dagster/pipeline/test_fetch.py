"""Fetching a day: requests, cached results, and the ledger."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.request import urlopen

import pytest

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import OutageError, WrongFrameError
from sdoml_core.formats.ledger import RAW_LEDGER, RawRow
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.inspection import inspect_frame
from sdoml_dagster.archive.tree import archive_path
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_demo.corruptions import AIA, with_pixels_of
from sdoml_demo.faults import Fault, FaultPlan
from sdoml_demo.server import Archive
from tests.support.day_deployment import DAY, Deploy, Deployment

ONE = {"channels": ("AIA_0171",), "cadence_minutes": 360}


class Faulty(FaultPlan):
    """A fault plan that can be replaced."""

    faulty: Mapping[str, Fault] = MappingProxyType({})

    def choose(self, path: str, attempt: int) -> Fault | None:
        return self.faulty.get(path.rpartition("/")[2])

    def lose(self, *names: str, fault: Fault = Fault.NOT_FOUND) -> None:
        self.hit(dict.fromkeys(names, fault))

    def hit(self, faulty: Mapping[str, Fault]) -> None:
        object.__setattr__(self, "faulty", faulty)


@pytest.fixture
def plan() -> Faulty:
    return Faulty()


@pytest.fixture
def faulty(frame_cache: Path, plan: Faulty) -> "Archive":
    with Archive(cache=frame_cache, absences=False, faults=plan) as running:
        yield running  # type: ignore[misc]


def asked(archive: Archive, since: int) -> list[str]:
    return [request.path.rpartition("/")[2] for request in archive.log.requests[since:]]


def age(deployment: Deployment, hours: float) -> None:
    then = time.time() - hours * 3600
    for ledger in deployment.folder.rglob("*.parquet"):
        os.utime(ledger, (then, then))


def statuses(deployment: Deployment) -> list[str]:
    return [row.status for row in deployment.ledger()]


NAME = "AIA20240308_0600_0171.fits"
LATER = "AIA20240308_0602_0171.fits"
AROUND = [f"AIA20240308_{minute}_0171.fits" for minute in ("0602", "0558", "0604", "0556")]


def test_second_run_requests_nothing(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    day.fetch()
    before = day.files()
    count = len(faulty.log.requests)
    day.fetch()
    assert len(faulty.log.requests) == count == 4
    assert day.files() == before


def test_interrupted_day_fetches_only_missing_frames(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    day.fetch()
    before = day.files()
    raw = day.folder / "raw/2024/03/08"
    (raw / "aia.parquet").unlink()
    (raw / NAME).unlink()
    damaged = raw / "AIA20240308_1200_0171.fits"
    damaged.write_bytes(damaged.read_bytes()[:-5000])
    count = len(faulty.log.requests)
    day.fetch()
    assert sorted(asked(faulty, count)) == [NAME, damaged.name]
    assert day.files() == before


def test_changed_frame_is_fetched_again(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    day.fetch()
    before = day.files()
    raw = day.folder / "raw/2024/03/08"
    changed = raw / NAME
    changed.write_bytes((raw / "AIA20240308_1200_0171.fits").read_bytes())
    count = len(faulty.log.requests)
    day.fetch()
    assert asked(faulty, count) == [NAME]
    assert day.files() == before


def test_damaged_ledger_is_rebuilt_from_the_frames(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    day.fetch()
    before = day.files()
    ledger = day.folder / "raw/2024/03/08/aia.parquet"
    ledger.write_bytes(ledger.read_bytes()[:-100])
    count = len(faulty.log.requests)
    day.fetch()
    assert asked(faulty, count) == []
    assert day.files() == before


def test_frame_with_bad_quality_is_replaced_by_a_stand_in(
    frame_cache: Path, deploy: Deploy
) -> None:
    bad = "AIA20240404_1800_0171.fits"  # a bad frame in the simulated archive
    with Archive(cache=frame_cache) as life:
        alone = deploy(life, aia_tolerance_minutes=0, **ONE)
        alone.day = date(2024, 4, 4)
        alone.fetch("AIA")
        assert asked(life, 0).count(bad) == 1
        tolerant = deploy(life, **ONE)
        tolerant.day = alone.day
        tolerant.fetch("AIA")
    assert statuses(alone)[3] == "quality"
    assert str(alone.ledger()[3].reason).startswith("18:00 QUALITY 0x00020000: ")
    assert not (alone.folder / "raw/2024/04/04" / bad).exists()
    row = tolerant.ledger()[3]
    assert (row.status, row.file) == ("ok", bad.replace("1800", "1758"))
    assert str(row.reason).startswith("stands in: 18:00 QUALITY 0x00020000: ")


def test_status_without_a_stand_in_describes_the_paired_minute(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    plan.hit({**dict.fromkeys(AROUND, Fault.NOT_FOUND), NAME: Fault.HTML})
    day = deploy(faulty, **ONE)
    day.fetch()
    assert statuses(day) == ["ok", "invalid", "ok", "ok"]
    row = day.ledger()[1]
    assert row.url is not None
    assert row.url.endswith(NAME)
    assert (row.reason or "").startswith("06:00 an HTML or XML page")


def test_missing_frame_is_requested_again_after_the_recheck_time(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    plan.lose(NAME)
    day = deploy(faulty, aia_tolerance_minutes=0, **ONE)
    day.fetch()
    assert statuses(day) == ["ok", "missing", "ok", "ok"]
    count = len(faulty.log.requests)
    age(day, 19)
    day.fetch()
    assert asked(faulty, count) == []
    ledger = day.folder / "raw/2024/03/08/aia.parquet"
    assert time.time() - ledger.stat().st_mtime > 18 * 3600, "an unchanged ledger keeps its age"
    plan.lose()
    age(day, 21)
    day.fetch()
    assert asked(faulty, count) == [NAME]
    assert statuses(day) == ["ok"] * 4


def test_confirmed_404_is_not_requested_again(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    plan.lose(NAME)
    day = deploy(faulty, aia_tolerance_minutes=0, **ONE)
    day.fetch()
    age(day, 21)
    count = len(faulty.log.requests)
    day.fetch()
    day.fetch()
    assert set(asked(faulty, count)) == {NAME}
    confirmed = len(faulty.log.requests)
    day.fetch()
    assert asked(faulty, confirmed) == []


def test_late_frame_replaces_its_stand_in(faulty: Archive, plan: Faulty, deploy: Deploy) -> None:
    plan.lose(NAME)
    day = deploy(faulty, **ONE)
    day.fetch()
    assert day.ledger()[1].file == LATER
    plan.lose()
    day.fetch()
    assert day.ledger()[1].file == LATER
    age(day, 21)
    day.fetch()
    assert day.ledger()[1].file == NAME


def test_frames_with_an_outage_are_requested_immediately(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    plan.lose(NAME, fault=Fault.SERVER_ERROR)
    day = deploy(faulty, **ONE)
    with pytest.raises(OSError, match="1 of 4 AIA frames of 2024-03-08"):
        day.fetch()
    assert statuses(day) == ["ok", "outage", "ok", "ok"]
    count = len(faulty.log.requests)
    plan.lose()
    day.fetch()
    assert asked(faulty, count) == [NAME]
    assert statuses(day) == ["ok"] * 4


def test_outage_after_a_404_is_reported_as_an_outage(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    plan.hit({NAME: Fault.NOT_FOUND, AROUND[0]: Fault.SERVER_ERROR})
    day = deploy(faulty, **ONE)
    with pytest.raises(OutageError, match="1 of 4 AIA frames"):
        day.fetch()
    assert statuses(day) == ["ok", "outage", "ok", "ok"]


def test_stand_ins_are_chosen_by_distance(faulty: Archive, plan: Faulty, deploy: Deploy) -> None:
    for lost in range(5):
        plan.lose(NAME, *AROUND[:lost])
        day = deploy(faulty, **ONE)
        day.fetch()
        row = day.ledger()[1]
        if lost < 4:
            assert row.file == AROUND[lost]
            minute = datetime.strptime(AROUND[lost][3:16], "%Y%m%d_%H%M").replace(tzinfo=UTC)
            assert row.observed is not None
            assert timedelta(0) <= row.observed - minute < timedelta(minutes=1)
            assert str(row.reason).startswith("stands in: 06:00 not in the archive")
        else:
            assert (row.status, row.file) == ("missing", None)
            assert str(row.reason).count("not in the archive") == 5
    day.process()
    assert row.slot == datetime(2024, 3, 8, 6, tzinfo=UTC)


def test_published_day_without_frames_warns_about_the_roots(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    day = deploy(faulty, **ONE)

    def warning(root: str, **changes: object) -> str | None:
        with ArchiveClient([root]) as client:
            return fetch_day(
                DAY,
                "AIA",
                settings=day.settings.model_copy(update=changes),
                store=day.store,
                client=client,
                report=print,
            ).warning

    wrong = f"{faulty.aia_root}/elsewhere"
    secret = wrong.replace("://", "://user:secret@")
    doubt = f"raw_aia {DAY}: nothing was found at {wrong}; is SDOML_AIA_ROOTS right?"
    assert warning(secret) == doubt
    assert warning(secret) == doubt, "the warning is repeated while the 404s are trusted"
    assert statuses(day) == ["missing"] * 4
    assert warning(wrong, publication_lag_days=10_000) is None, "the day may still be published"
    assert warning(wrong, start=datetime(2025, 1, 1, tzinfo=UTC)) is None, "no frame is expected"
    plan.lose(NAME)
    assert warning(faulty.aia_root) is None, "some frames exist"
    assert statuses(day).count("ok") == 4


def test_ledgers_and_messages_contain_no_password(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    secret = tuple(root.replace("://", "://reader:secret@") for root in day.settings.aia_roots)
    day.settings = day.settings.model_copy(update={"aia_roots": secret})
    day.fetch()
    assert statuses(day) == ["ok"] * 4
    cut_off = deploy(aia_roots=("http://reader:secret@127.0.0.1:9",), attempts=1, **ONE)
    with pytest.raises(OutageError, match=r"http://127\.0\.0\.1:9: ") as caught:
        cut_off.fetch("AIA")
    rows = [*day.ledger(), *cut_off.ledger()]
    assert "secret" not in "\n".join([str(caught.value), *map(repr, rows), *cut_off.lines])


def test_404s_from_another_root_are_requested_again(faulty: Archive, deploy: Deploy) -> None:
    day = deploy(faulty, **ONE)
    roots = day.settings.aia_roots
    day.settings = day.settings.model_copy(update={"aia_roots": (f"{roots[0]}/elsewhere",)})
    day.fetch()
    assert statuses(day) == ["missing"] * 4
    day.settings = day.settings.model_copy(update={"aia_roots": roots})
    day.fetch()
    assert statuses(day) == ["ok"] * 4


def test_changed_tolerance_takes_effect_immediately(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    def row(day: Deployment) -> RawRow:
        day.fetch()
        return day.ledger()[1]

    plan.lose(NAME)
    strict = deploy(faulty, aia_tolerance_minutes=0, **ONE)
    lenient = deploy(faulty, store=strict.settings.store, **ONE)
    assert row(strict).status == "missing"
    assert row(lenient).file == LATER
    assert row(strict).status == "missing"


def test_index_contains_the_time_of_a_stand_in(
    faulty: Archive, plan: Faulty, deploy: Deploy
) -> None:
    from sdoml_core.formats.index import decode_index

    plan.lose(NAME)
    day = deploy(faulty, channels=("AIA_0171", "HMI_M"), cadence_minutes=360)
    day.build()
    index = decode_index(day.store.read("shards/2024/sdoml-lite-2024-03-08.parquet")).table
    found = {(r["slot"].hour, r["channel"]): r["observed"] for r in index.to_pylist()}
    assert found[6, "AIA_0171"] == day.ledger()[1].observed
    assert (found[6, "AIA_0171"].hour, found[6, "AIA_0171"].minute) == (6, 2)


def test_original_raw_folder_is_adopted_without_a_download(
    archive: Archive, deploy: Deploy, tmp_path: Path
) -> None:
    """The raw folder has the original project's layout."""
    original = tmp_path / "dataset_raw" / "2024" / "03" / "08"
    original.mkdir(parents=True)
    for channel in ("AIA_0171", "HMI_M"):
        for hour in (0, 6, 12, 18):
            path = archive_path(CHANNELS[channel], datetime(2024, 3, 8, hour, tzinfo=UTC))
            tree = "aia/synoptic" if channel.startswith("AIA") else "hmi/images"
            data = archive.frames.get(f"/data/{tree}/{path}")
            assert data is not None
            (original / path.rpartition("/")[2]).write_bytes(data)
    (original / "README.txt").write_text("not a frame")
    unreachable = ("http://127.0.0.1:9/nothing",)
    options = {"channels": ("AIA_0171", "HMI_M"), "cadence_minutes": 360}
    day = deploy(aia_roots=unreachable, hmi_roots=unreachable, **options)
    day.folder.mkdir()
    (day.folder / "raw").symlink_to(tmp_path / "dataset_raw")
    day.build()
    assert {row.status for row in day.ledger()} == {"ok"}
    fetched = deploy(archive, **options)
    fetched.build()
    assert day.files("shards") == fetched.files("shards")


def test_frame_with_the_wrong_time_or_channel_is_rejected(archive: Archive) -> None:
    minute = datetime(2024, 3, 8, 6, tzinfo=UTC)
    path = f"/data/aia/synoptic/{archive_path(CHANNELS['AIA_0171'], minute)}"
    data = archive.frames.get(path)
    assert data is not None
    for other in (minute - timedelta(minutes=2), minute + timedelta(minutes=2)):
        with pytest.raises(WrongFrameError, match="was taken at 2024-03-08 06:00"):
            inspect_frame(data, CHANNELS["AIA_0171"], other, max_missing_fraction=0.05)
    with pytest.raises(WrongFrameError, match="contains a frame of 171 Å, not 193 Å"):
        inspect_frame(data, CHANNELS["AIA_0193"], minute, max_missing_fraction=0.05)


def test_requests_in_flight_are_limited_by_the_setting(
    archive: Archive, frame_cache: Path, deploy: Deploy
) -> None:
    options = {"channels": ("AIA_0171",), "cadence_minutes": 120}
    deploy(archive, **options).fetch()  # lets the archive render and cache the frames
    with Archive(cache=frame_cache, absences=False, latency=0.05) as slow:
        day = deploy(slow, max_connections=3, **options)
        day.fetch()
        assert slow.log.max_in_flight == 3
        assert slow.log.connections == 3
        assert all(r.agent.startswith("sdoml-lite/") for r in slow.log.requests)


def test_store_error_ends_a_day_immediately(archive: Archive, deploy: Deploy) -> None:
    day = deploy(archive, **ONE)
    day.folder.mkdir()
    (day.folder / "raw").write_bytes(b"in the way")
    with ArchiveClient(day.settings.aia_roots) as client, pytest.raises(OSError, match="raw/2024"):
        fetch_day(DAY, "AIA", settings=day.settings, store=day.store, client=client, report=print)


Change = Callable[[bytes], bytes]


@pytest.fixture
def altered(
    frame_cache: Path,
) -> Iterator[Callable[[Mapping[str, Callable[[bytes], bytes]]], Archive]]:
    """A function that starts an archive with some changed files."""
    with ExitStack() as stack:

        def start(changes: Mapping[str, Change]) -> Archive:
            def alter(path: str, body: bytes) -> bytes:
                return changes.get(path.rpartition("/")[2], bytes)(body)

            return stack.enter_context(Archive(cache=frame_cache, absences=False, alter=alter))

        yield start


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("all zero", "no pixel is above 0"),
        ("no Sun", "no solar disk"),
        ("EXPTIME 0", "EXPTIME is 0 s"),
        ("roll 180°, in the header", "not in science pointing: rolled"),
        ("off center, not in the header", "from its position in the header"),
        ("ACS_ECLP YES", "ACS_ECLP is YES: eclipse"),
    ],
)
def test_frame_with_wrong_content_has_a_stand_in(
    altered: Callable[..., Archive], deploy: Deploy, kind: str, reason: str
) -> None:
    change = next(corruption.change for corruption in AIA if corruption.name == kind)
    day = deploy(altered({NAME: change}), **ONE)
    day.fetch()
    row = day.ledger()[1]
    assert (row.status, row.file) == ("ok", LATER)
    assert reason in (row.reason or "")
    day.process()
    assert [frame.status for frame in StoredDay(day.store, DAY).frame_table("AIA") or ()] == [
        "ok"
    ] * 4


def test_stale_frame_with_a_new_header_is_rejected(
    altered: Callable[..., Archive], deploy: Deploy, frame_cache: Path
) -> None:
    with Archive(cache=frame_cache, absences=False) as archive:
        path = archive_path(CHANNELS["AIA_0171"], datetime(2024, 3, 8, tzinfo=UTC))
        with urlopen(f"{archive.aia_root}/{path}") as answer:
            earlier = answer.read()
    stale = partial(with_pixels_of, other=earlier)
    day = deploy(altered({NAME: stale, LATER: stale}), **ONE)
    day.fetch()
    first, second, *_ = day.ledger()
    assert first.file == "AIA20240308_0000_0171.fits"
    assert (second.status, second.file) == ("ok", AROUND[1])
    for minute in ("06:00", "06:02"):
        assert f"{minute} the same pixels as {first.file}" in (second.reason or "")
    assert len({row.data_crc32 for row in day.ledger()}) == 4


def test_frames_in_an_old_ledger_are_rechecked_without_fetching(
    faulty: Archive, deploy: Deploy
) -> None:
    day = deploy(faulty, **ONE)
    day.fetch()
    before = day.ledger()
    old = [replace(row, flags=None, data_crc32=None) for row in before]
    day.store.write(layout.raw_ledger(DAY, "AIA"), RAW_LEDGER.encode(old))
    count = len(faulty.log.requests)
    day.fetch()
    assert len(faulty.log.requests) == count
    assert day.ledger() == before
