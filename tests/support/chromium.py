"""Chromium for tests of web pages, controlled through Playwright."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.requirements import browser

ARTIFACTS = Path("artifacts").resolve()
VIEWPORT = {"width": 1440, "height": 900}
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium, and close it at the end."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser(), args=OPTIONS)
        yield running
        running.close()


@contextmanager
def open_page(patience: float) -> Iterator[Page]:
    """Open a page in a new browser. Actions and expectations wait up to ``patience`` ms."""
    expect.set_options(timeout=patience)
    with open_browser() as running:
        page = running.new_page(viewport=VIEWPORT)
        page.set_default_timeout(patience)
        yield page


def save_screenshot(page: Page, name: str) -> None:
    """Save a picture of the page in the folder for artifacts."""
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")
