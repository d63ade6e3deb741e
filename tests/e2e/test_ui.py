"""A user's first steps in a real browser: backfill three days and look at the Sun."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Page, expect

from sdoml_demo.server import Archive
from sdoml_demo.ui import MODULE
from tests.support.chromium import open_page, save_screenshot
from tests.support.deployment import Deployment
from tests.support.runs import small_environment

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
"""JavaScript function that returns the fractions of bright and dark pixels in an image."""

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def deployment(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    environment = small_environment(
        tmp_path_factory.mktemp("ui"),
        archive,
        start=FIRST,
        end="2024-03-11",
        channels="AIA_0171,AIA_0193,AIA_0211,AIA_1700,HMI_M",
        resolution="128",
        days_per_run="3",
    )
    with Deployment(environment, ["-m", MODULE]) as running:
        yield running


@pytest.fixture
def page(deployment: Deployment) -> Iterator[Page]:
    with open_page(PATIENCE) as page:
        yield page


@pytest.mark.timeout(600)
def test_backfill_from_the_browser_succeeds_and_shows_the_sun(
    page: Page, deployment: Deployment
) -> None:
    page.goto(f"{deployment.url}/asset-groups")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    days = dialog.get_by_placeholder("ex: ")
    days.fill(f"[{FIRST}...{LAST}]")
    days.press("Enter")
    expect(dialog.get_by_text("3 partitions")).to_be_visible()
    save_screenshot(page, "1-launch")
    dialog.get_by_role("button", name="Launch backfill").click()
    expect(dialog).to_be_hidden()

    backfill = deployment.latest_backfill()
    found = deployment.wait(backfill)
    assert found["status"] == "COMPLETED_SUCCESS", found
    page.goto(f"{deployment.url}/runs/b/{backfill}")
    expect(page.get_by_text("100% completed")).to_have_count(7)
    save_screenshot(page, "2-backfill")

    page.goto(f"{deployment.url}/asset-groups")
    expect(page.get_by_text("processed_aia").first).to_be_visible()  # the group is expanded
    page.wait_for_timeout(4000)  # the UI lays out the graph, then zooms
    save_screenshot(page, "3-lineage")

    page.goto(f"{deployment.url}/assets/shards?view=partitions&partition={LAST}")
    expect(page.get_by_text("Materialized (3)")).to_be_visible()
    expect(page.get_by_text("Failed (0)")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="contact_sheet")
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").locator("img")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 400
    # The picture shows a bright Sun on a dark sky, and not a black rectangle.
    brightness = picture.evaluate(BRIGHTNESS)
    assert brightness["bright"] > 0.1
    assert brightness["dark"] > 0.3
    save_screenshot(page, "4-partition")
