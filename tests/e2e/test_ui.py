"""First steps in a real browser: backfill three days and look at the Sun."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from sdoml_demo.server import Archive
from tests.support.deployment import Deployment
from tests.support.requirements import browser
from tests.support.runs import SMALL

CHROMIUM = browser()
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ARTIFACTS = Path("artifacts").resolve()
FIRST, LAST = "2024-03-08", "2024-03-10"
PATIENCE = timedelta(minutes=6).total_seconds() * 1000

BRIGHTNESS = """image => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let bright = 0, dark = 0;
  for (let i = 0; i < data.length; i += 4) {
    const value = Math.max(data[i], data[i + 1], data[i + 2]);
    bright += value > 100;
    dark += value < 40;
  }
  return {bright: 4 * bright / data.length, dark: 4 * dark / data.length};
}"""
"""Fractions of bright and dark pixels that the browser has drawn."""

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def deployment(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("ui")
    environment = SMALL | {
        "SDOML_START": FIRST,
        "SDOML_END": "2024-03-11",
        "SDOML_CHANNELS": "AIA_0171,AIA_0193,AIA_0211,AIA_1700,HMI_M",
        "SDOML_RESOLUTION": "128",
        "SDOML_DAYS_PER_RUN": "3",
        "SDOML_STORE": str(folder / "store"),
        "SDOML_AIA_ROOTS": archive.aia_root,
        "SDOML_HMI_ROOTS": archive.hmi_root,
        "DAGSTER_HOME": str(folder / "dagster"),
    }
    with Deployment(environment) as running:
        yield running


@pytest.fixture
def page(deployment: Deployment) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def shot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


@pytest.mark.timeout(600)
def test_backfill_from_the_browser_succeeds_and_shows_the_sun(
    page: Page, deployment: Deployment
) -> None:
    expect.set_options(timeout=PATIENCE)
    page.goto(f"{deployment.url}/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    days = dialog.get_by_placeholder("ex: ")
    days.fill(f"[{FIRST}...{LAST}]")
    days.press("Enter")
    expect(dialog.get_by_text("3 partitions")).to_be_visible()
    shot(page, "1-launch")
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()

    backfill = deployment.latest_backfill()
    found = deployment.wait(backfill)
    assert found["status"] == "COMPLETED_SUCCESS", found
    page.goto(f"{deployment.url}/runs/b/{backfill}")
    expect(page.get_by_text("100% completed")).to_have_count(7)
    shot(page, "2-backfill")

    page.goto(f"{deployment.url}/asset-groups")
    expect(page.get_by_text("processed_aia").first).to_be_visible()  # one group, not collapsed
    page.wait_for_timeout(4000)  # the graph gets its layout first, then its zoom
    shot(page, "3-lineage")

    page.goto(f"{deployment.url}/assets/shards?view=partitions&partition={LAST}")
    expect(page.get_by_text("Materialized (3)")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="contact_sheet")
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 400
    # Not a black rectangle: the Sun is bright, space is not.
    brightness = picture.evaluate(BRIGHTNESS)
    assert brightness["bright"] > 0.1
    assert brightness["dark"] > 0.3
    shot(page, "4-partition")
