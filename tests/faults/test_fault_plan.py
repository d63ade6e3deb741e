"""A day fetched from a faulty archive is the same as one fetched from an intact archive."""

from pathlib import Path

import pytest

from sdoml_core.errors import OutageError
from sdoml_demo.faults import RETRIED, Fault, FaultPlan
from sdoml_demo.server import Archive
from tests.support.day_deployment import Deploy


def test_faults_in_every_fifth_response_do_not_change_the_shards(
    archive: Archive, frame_cache: Path, deploy: Deploy
) -> None:
    calm = deploy(archive, cadence_minutes=120)
    calm.build()
    rates = {fault: 0.2 / len(RETRIED) for fault in RETRIED}
    plan = FaultPlan(rates, seed=5, retry_after=0)
    with Archive(cache=frame_cache, absences=False, faults=plan) as faulty:
        stormy = deploy(faulty, cadence_minutes=120, read_timeout=1)
        stormy.build()
        answers = [request.fault for request in faulty.log.requests]
        url = faulty.url
    assert sum(fault is not None for fault in answers) >= 3
    shards = calm.files("shards")
    assert len(shards) == 2
    assert stormy.files("shards") == shards
    assert {row.status for row in stormy.ledger()} == {"ok"}
    ledgers = {"aia.parquet", "hmi.parquet"}  # the ledgers contain the archive's address
    assert url in str(stormy.ledger()[0].url)
    differing = {name for name, sha in stormy.files().items() if calm.files().get(name) != sha}
    assert {Path(name).name for name in differing} <= ledgers


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: fault.value)
def test_no_frame_is_lost_if_the_first_response_is_always_faulty(
    fault: Fault, archive: Archive, frame_cache: Path, deploy: Deploy
) -> None:
    options = {"channels": ("AIA_0171", "HMI_M"), "cadence_minutes": 720}
    calm = deploy(archive, **options)
    calm.fetch()
    plan = FaultPlan({fault: 1.0}, retry_after=0)
    with Archive(cache=frame_cache, absences=False, faults=plan) as faulty:
        stormy = deploy(faulty, read_timeout=0.5, **options)
        stormy.fetch()
    assert [row.sha256 for row in stormy.ledger()] == [row.sha256 for row in calm.ledger()]


REASONS = {
    Fault.NOT_FOUND: ("missing", "not in the archive"),
    # On a day with outages, web pages instead of files are treated as part of the outage.
    Fault.HTML: ("outage", "HTML"),
    Fault.EMPTY: ("outage", "empty"),
    Fault.SHORT: ("invalid", ""),
    Fault.FLIP: ("invalid", ""),
    Fault.WRONG: ("invalid", ""),
    Fault.SERVER_ERROR: ("outage", "HTTP 500"),
    Fault.UNAVAILABLE: ("outage", "HTTP 503"),
    Fault.TOO_MANY_REQUESTS: ("outage", "HTTP 429"),
    Fault.RESET: ("outage", "Connection"),
    Fault.CUT: ("outage", "IncompleteRead"),
}


def test_ledger_records_exactly_the_permanent_faults(
    archive: Archive, frame_cache: Path, deploy: Deploy
) -> None:
    rates = {fault: 0.5 / len(REASONS) for fault in REASONS}
    plan = FaultPlan(rates, seed=8, attempts=None, retry_after=0)
    options = {"cadence_minutes": 120, "aia_tolerance_minutes": 0}
    deploy(archive, **options).fetch()  # lets the archive render and cache the frames
    with Archive(cache=frame_cache, absences=False, faults=plan) as faulty:
        day = deploy(faulty, **options)
        with pytest.raises(OutageError, match=r"of 24 AIA frames of 2024-03-08 could"):
            day.fetch("AIA")
        with pytest.raises(OutageError, match=r"of 12 HMI frames of 2024-03-08 could"):
            day.fetch("HMI")
        expected = {}
        for row in day.ledger():
            assert row.url is not None
            path = row.url.removeprefix(faulty.url)
            fault = plan.choose(path, 1)
            expected[path] = ("ok", "") if fault is None else REASONS[fault]
        found = {str(row.url).removeprefix(faulty.url): row for row in day.ledger()}
    assert len(found) == 24 + 12
    seen = set()
    for path, (status, reason) in expected.items():
        row = found[path]
        assert (path, row.status) == (path, status)
        assert reason in (row.reason or "")
        assert (row.reason is None) == (status == "ok")
        seen.add(status)
    assert seen == {"ok", "missing", "invalid", "outage"}


def test_stand_ins_replace_permanently_bad_frames(
    archive: Archive, frame_cache: Path, deploy: Deploy
) -> None:
    plan = FaultPlan({Fault.NOT_FOUND: 0.3, Fault.HTML: 0.2}, seed=2, attempts=None)
    options = {"cadence_minutes": 120, "channels": ("AIA_0171",)}
    with Archive(cache=frame_cache, absences=False, faults=plan) as faulty:
        strict = deploy(faulty, aia_tolerance_minutes=0, **options)
        strict.fetch()
        lenient = deploy(faulty, **options)
        lenient.fetch()
    bad = [row for row in strict.ledger() if row.status != "ok"]
    assert len(bad) > 3
    for row in bad:
        (other,) = [found for found in lenient.ledger() if found.slot == row.slot]
        if other.status == "ok":
            assert other.observed is not None
            offset = round((other.observed - row.slot).total_seconds() / 120) * 2
            assert offset in (2, -2, 4, -4)
            assert "stands in: " in str(other.reason)
    assert sum(row.status == "ok" for row in lenient.ledger()) >= 11
