"""Backfills launched as the UI does, through GraphQL, with a real webserver, daemon and runs."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdoml_demo.server import Archive
from tests.support.deployment import Days, Deployment
from tests.support.runs import DAILY, small_environment

FIRST_DAYS = ["2024-03-08", "2024-03-09", "2024-03-10"]
GOOD, EMPTY, HALF, OUTAGE = "2024-03-12", "2024-03-14", "2024-03-15", "2024-03-17"
EMPTY_DAYS = frozenset({"2024/03/09", EMPTY.replace("-", "/")})
HALF_DAYS = frozenset({"2024/03/10", HALF.replace("-", "/")})
CHECKS = """
query($asset: AssetKeyInput!, $name: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $name, limit: 20) {
    status evaluation { success severity description partition } } }"""


@pytest.fixture(scope="module")
def archive(frame_cache: Path) -> Iterator[Archive]:
    """An archive with some days without frames and some without an afternoon."""
    days = Days(empty=EMPTY_DAYS, half=HALF_DAYS)
    with Archive(cache=frame_cache, absences=False, faults=days) as running:
        yield running


@pytest.fixture(scope="module")
def deployment(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    environment = small_environment(
        tmp_path_factory.mktemp("backfills"),
        archive,
        start=FIRST_DAYS[0],
        end="2024-03-18",
        days_per_run="2",
        attempts="1",
        run_retries="0",
        channels="AIA_1700,HMI_M",
    )
    with Deployment(environment) as running:
        yield running


def counts(outcome: Any) -> dict[str, tuple[int, int]]:
    """Return the numbers of completed and failed partitions of each daily asset."""
    return {
        s["assetKey"]["path"][0]: (s["numPartitionsMaterialized"], s["numPartitionsFailed"])
        for s in outcome["assetBackfillData"]["assetBackfillStatuses"]
        if "numPartitionsMaterialized" in s
    }


@pytest.mark.timeout(900)
def test_backfill_of_all_assets_fills_an_empty_store(deployment: Deployment) -> None:
    store = Path(deployment.environment["SDOML_STORE"])
    assert not store.exists()
    names = [*DAILY, "normalization_stats", "release"]
    found = deployment.wait(deployment.launch(names, FIRST_DAYS))
    assert found["status"] == "COMPLETED_SUCCESS", json.dumps(found)
    assert counts(found) == dict.fromkeys(DAILY, (3, 0))
    # Ingest and shards each need two runs of up to two days. The constants and the release each
    # need one run.
    assert len(found["runs"]) == 2 + 1 + 2 + 1
    assert len(list(store.glob("normalization/*.json"))) == 2
    assert (store / "releases/sdoml-lite/SHA256SUMS").is_file()


@pytest.mark.timeout(900)
def test_backfills_handle_good_empty_partial_and_bad_days(
    deployment: Deployment, archive: Archive
) -> None:
    days = [GOOD, EMPTY, HALF, OUTAGE]

    archive.faults = Days(
        empty=EMPTY_DAYS, half=HALF_DAYS, outage=frozenset({OUTAGE.replace("-", "/")})
    )

    # During the ingest, only the day with the outage fails.
    ingest = deployment.wait(deployment.launch(DAILY[:4], days))
    assert counts(ingest) == dict.fromkeys(DAILY[:4], (3, 1))
    failed = [run for run in ingest["runs"] if run["status"] == "FAILURE"]
    partitions = {
        tag["value"] for run in failed for tag in run["tags"] if "partition" in tag["key"]
    }
    assert partitions == {OUTAGE}

    # The incomplete days succeed with a warning.
    query = {"asset": {"path": ["processed_aia"]}, "name": "coverage"}
    found = {
        e["evaluation"]["partition"]: e["evaluation"]
        for e in deployment.graphql(CHECKS, **query)["assetCheckExecutions"]
        # Evaluations for a whole run have no partition.
        if e["evaluation"] and e["evaluation"]["partition"] in days
    }
    assert found.keys() == {GOOD, EMPTY, HALF}
    assert found[GOOD]["success"]
    assert not found[EMPTY]["success"]
    assert not found[HALF]["success"]
    assert found[EMPTY]["severity"] == found[HALF]["severity"] == "WARN"

    # When the archive responds again, only the failed day needs to be launched again.
    archive.faults = Days(empty=EMPTY_DAYS, half=HALF_DAYS)
    again = deployment.wait(deployment.launch(DAILY[:4], [OUTAGE]))
    assert counts(again) == dict.fromkeys(DAILY[:4], (1, 0))

    # Run fit_normalization, then build_shards.
    fit = deployment.job("fit_normalization")
    assert fit == "SUCCESS"
    build = deployment.wait(deployment.launch(["shards"], [EMPTY, HALF]))
    assert build["status"] == "COMPLETED_SUCCESS"
    assert counts(build) == {"shards": (2, 0)}
