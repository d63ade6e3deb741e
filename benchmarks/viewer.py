"""Speed of the viewer in a real browser, on a release of 6,000 shards.

``python -m benchmarks.viewer`` writes a release whose shards are hard links to one, opens it with
``sdoml view`` as a person would, and measures in Chromium:

- from the start of the command to the first picture, all channels drawn,
- a step of the slider at 512² for eight channels: from the input to the last channel drawn,
- frames per second of playback at 256² for four channels, with 24 wanted.

The page cache is warm.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from playwright.sync_api import Page, sync_playwright

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS
from sdoml_core.formats.index import Index
from sdoml_core.formats.release_index import shard_facts, write_release_index
from sdoml_core.formats.shard import FrameFacts, ShardWriter

START = datetime(2010, 6, 1, tzinfo=UTC)
SLOTS = 96
CONSTANT = 4e4
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

WATCH = """() => {
  window.drawn = [];
  document.addEventListener("drawn", () => window.drawn.push(performance.now()));
}"""
STEP = """index => new Promise(resolve => {
  const slider = document.getElementById("slot");
  const began = performance.now();
  document.addEventListener("drawn", () => requestAnimationFrame(
    () => resolve(performance.now() - began)), {once: true});
  slider.value = index;
  slider.dispatchEvent(new Event("input"));
})"""


def write_release(folder: Path, days: int, side: int) -> None:
    """Write one shard of a day, and a release in which all days are links to it."""
    folder.mkdir(parents=True)
    first = folder / "day.tar"
    y, x = np.mgrid[:side, :side] / side - 0.5
    disk = (np.hypot(x, y) < 0.397) * 0.3
    rng = np.random.default_rng(0)
    with first.open("wb") as file:
        writer = ShardWriter(file)
        for number in range(SLOTS):
            slot = START + number * timedelta(minutes=15)
            for name in sorted(DEFAULT_CHANNELS):
                pixels = (disk + rng.random((side, side)) * 0.3).astype(np.float32)
                aia = name.startswith("AIA")
                facts = FrameFacts(
                    observed=slot,
                    rsun_obs=960.0,
                    flags=0,
                    constant=CONSTANT if aia else 1.0,
                    transform="sqrt" if aia else "linear",
                    mean=float(pixels.mean()),
                    saturated=0.0,
                )
                writer.add(slot, CHANNELS[name], pixels, facts)
        summary = writer.close()
    times = {name: summary.table.schema.get_field_index(name) for name in ("slot", "observed")}

    def index(number: int) -> Index:
        table = summary.table
        for name, at in times.items():
            shifted = np.asarray(table[name].cast(pa.int64())) + number * 86_400_000
            table = table.set_column(at, table.schema.field(name), pa.array(shifted).cast(
                table.schema.field(name).type))  # fmt: skip
        return Index(table, f"sun-{number + 1:04d}.tar", summary.bytes, summary.sha256, "benchmark")

    for number in range(days):
        os.link(first, folder / f"sun-{number + 1:04d}.tar")
    first.unlink()
    with (folder / "index.parquet").open("wb") as file:
        facts = [shard_facts(index(number)) for number in range(days)]
        write_release_index(file, facts, lambda name: index(int(name[4:8]) - 1))


def open_viewer(folder: Path, page: Page) -> tuple[subprocess.Popen[str], float]:
    """Start the command, open its page, and return the seconds to the first picture."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "sdoml_cli",
        "view",
        str(folder),
        "--no-browser",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    page.add_init_script(f"({WATCH})()")
    page.goto(address, wait_until="commit")
    page.wait_for_selector("canvas[aria-label]", state="attached")
    while not page.evaluate("window.drawn.length"):
        pass
    return process, time.perf_counter() - began


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=6000)
    parser.add_argument("--repeat", type=int, default=5, help="starts of the command")
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary, "release")
        write_release(folder, options.shards, options.side)
        size = (folder / "index.parquet").stat().st_size / 1e6
        print(f"{options.shards} shards, index of {size:.0f} MB")
        browser = playwright.chromium.launch(executable_path=browser_path, args=OPTIONS)
        starts = []
        for _ in range(options.repeat):
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            process, seconds = open_viewer(folder, page)
            starts.append(seconds)
            page.close()
            stop(process)
        print(f"first picture     {statistics.median(starts):.2f} s after the command")
        # On a screen of 1.5 device pixels per CSS pixel, eight panels of 340 pixels need 512².
        context = browser.new_context(
            viewport={"width": 1440, "height": 900}, device_scale_factor=1.5
        )
        page = context.new_page()
        process, _ = open_viewer(folder, page)
        page.wait_for_function("() => Number(document.getElementById('slot').max) > 90")
        steps = [page.evaluate(STEP, number) for number in range(5, 65)]
        steps.sort()
        print(f"step at {options.side}², 8   {statistics.median(steps):.0f} ms, "
              f"95 % {steps[int(0.95 * len(steps))]:.0f} ms")  # fmt: skip
        context.close()
        page = browser.new_page(viewport={"width": 700, "height": 780})
        page.add_init_script(f"({WATCH})()")
        names = ",".join(DEFAULT_CHANNELS[:4])
        day = (START + timedelta(days=1)).date()
        stop(process)
        process, _ = open_viewer(folder, page)
        page.goto(f"{page.url.partition('#')[0]}#t={day}T00:00&channels={names}")
        page.reload()
        page.wait_for_function("() => Number(document.getElementById('slot').max) > 90")
        page.select_option("#speed", "24")
        page.click("#play")
        page.wait_for_function("() => window.drawn.length > 90", timeout=120_000)
        times = np.array(page.evaluate("window.drawn"))[10:90]
        print(f"playback at 256², 4   {1000 / np.diff(times).mean():.1f} frames/s of 24")
        stop(process)
        browser.close()


if __name__ == "__main__":
    main()
