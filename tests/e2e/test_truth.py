"""The UI shows the actual state: a backfill's checks, freshness, two datasets, a termination."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from sdoml_demo.server import Archive
from tests.support.chromium import open_page, save_screenshot
from tests.support.deployment import Days, Deployment
from tests.support.runs import small_environment

PATIENCE = timedelta(minutes=3).total_seconds() * 1000
DAYS = ["2024-03-07", "2024-03-08", "2024-03-09"]
BAD = "2024-03-07"
INGESTED = ["raw_aia", "raw_hmi", "processed_aia", "processed_hmi"]

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def archive(frame_cache: Path) -> Iterator[Archive]:
    """An archive without frames for the afternoon of the bad day."""
    faults = Days(half=frozenset({BAD.replace("-", "/")}))
    with Archive(cache=frame_cache, absences=False, faults=faults) as running:
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page(PATIENCE) as page:
        yield page


def environment(folder: Path, archive: Archive) -> dict[str, str]:
    return small_environment(
        folder, archive, start=DAYS[0], end="2024-03-12", channels="AIA_1700,HMI_M", attempts="1"
    )


@pytest.fixture(scope="module")
def deployment(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment in which a backfill with default settings has built three days, and shards."""
    with Deployment(environment(tmp_path_factory.mktemp("truth"), archive)) as running:
        backfill = running.wait(running.launch([*INGESTED], DAYS))
        assert backfill["status"] == "COMPLETED_SUCCESS", backfill
        assert len(backfill["runs"]) == len(DAYS)
        assert running.job("fit_normalization") == "SUCCESS"
        built = running.wait(running.launch(["shards"], DAYS))
        assert built["status"] == "COMPLETED_SUCCESS", built
        yield running


def test_backfill_checks_pass_except_on_the_bad_day(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.url}/assets/processed_aia?view=checks&checkDetail=coverage")
    tabs = page.get_by_role("tab", name="Partitions")
    expect(tabs).to_have_count(2)  # one for the asset, and one for the check
    tabs.nth(1).click()
    page.wait_for_timeout(4000)
    save_screenshot(page, "checks-partitions")
    expect(page.get_by_text("Passed (2)").or_(page.get_by_text("Succeeded (2)"))).to_be_visible()
    expect(page.get_by_text("Failed (1)")).to_be_visible()
    page.wait_for_timeout(1500)
    save_screenshot(page, "checks-partitions")


def test_execute_all_checks_the_latest_day(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.url}/assets/processed_hmi?view=checks")
    page.get_by_role("button", name="Execute all").click()
    deadline = time.monotonic() + 120
    query = "{ runsOrError(limit: 1) { ... on Runs { results { id status } } } }"
    before = deployment.graphql(query)["runsOrError"]["results"][0]["id"]
    while True:
        (run,) = deployment.graphql(query)["runsOrError"]["results"]
        if run["id"] != before and run["status"] in {"SUCCESS", "FAILURE"}:
            break
        assert time.monotonic() < deadline, run
        time.sleep(1)
    assert run["status"] == "SUCCESS"
    page.wait_for_timeout(3000)
    save_screenshot(page, "execute-all")


def test_freshness_fails_while_days_are_missing(page: Page, deployment: Deployment) -> None:
    page.goto(f"{deployment.url}/assets/shards?view=checks&checkDetail=freshness")
    expect(page.get_by_text("no shard for 2024-03-10 … 2024-03-11").first).to_be_visible()
    page.wait_for_timeout(1500)
    save_screenshot(page, "freshness")


TERMINATE = "mutation($id: String!) { terminateRun(runId: $id) { __typename } }"
STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
RUNS = """{ runsOrError(filter: {statuses: [STARTED]}) { ... on Runs { results { id } } } }"""


def test_terminated_run_does_not_wait_for_a_stalled_archive(
    page: Page, deployment: Deployment, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "latency", 60.0)
    backfill = deployment.launch(["raw_aia", "raw_hmi"], ["2024-03-11"])
    asked = len(archive.log.requests)
    deadline = time.monotonic() + 120
    while archive.log.in_flight.total() < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    (run,) = deployment.graphql(RUNS)["runsOrError"]["results"]
    page.goto(f"{deployment.url}/runs/{run['id']}")
    page.get_by_role("button", name="Terminate").click()
    confirm = page.get_by_role("dialog").get_by_role("button", name="Terminate")
    confirm.click()
    clicked = time.monotonic()
    while deployment.graphql(STATUS, id=run["id"])["runOrError"]["status"] != "CANCELED":
        assert time.monotonic() - clicked < 20
        time.sleep(0.05)
    page.wait_for_timeout(1500)
    save_screenshot(page, "terminated")
    assert archive.log.in_flight.total() + len(archive.log.requests) - asked <= 4 + 1
    deployment.wait(backfill, timeout=60)


def test_two_datasets_can_share_an_instance(page: Page, archive: Archive, tmp_path: Path) -> None:
    base = environment(tmp_path, archive)
    locations = {}
    for name, channels in (("aia-only", "AIA_1700"), ("hmi-only", "HMI_M")):
        config = tmp_path / f"{name}.toml"
        config.write_text(
            f'name = "{name}"\nchannels = ["{channels}"]\nstore = "{tmp_path / name}"\n'
        )
        location = tmp_path / f"{name.replace('-', '_')}.py"
        location.write_text(
            f"import os\n\nos.environ['SDOML_CONFIG'] = '{config}'\n"
            "from sdoml_dagster.definitions import defs\n"
        )
        locations[name] = ("--python-file", str(location))
    shared = {k: v for k, v in base.items() if k not in {"SDOML_CHANNELS", "SDOML_STORE"}}
    with Deployment(shared, locations=locations) as both:
        days = DAYS[:1]
        aia = both.wait(both.launch(["aia_only/raw_aia", "aia_only/processed_aia"], days))
        hmi = both.wait(both.launch(["hmi_only/raw_hmi", "hmi_only/processed_hmi"], days))
        assert aia["status"] == hmi["status"] == "COMPLETED_SUCCESS"
        for name, table in (("aia-only", "aia"), ("hmi-only", "hmi")):
            tables = {path.name for path in (tmp_path / name).rglob("*.parquet")}
            assert tables == {f"{table}.parquet"}
        page.goto(f"{both.url}/assets")
        expect(page.get_by_text("hmi_only").first).to_be_visible()
        page.goto(f"{both.url}/asset-groups")
        page.wait_for_timeout(5000)
        save_screenshot(page, "two-datasets")
