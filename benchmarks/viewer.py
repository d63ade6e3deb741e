"""Speed of the viewer in a real browser, on a release of 6,000 shards.

``python -m benchmarks.viewer`` writes a release whose shards are hard links to one file, opens it
with ``sdoml view`` as a user would, and measures in Chromium:

- The time from the start of the command until all channels of the first picture are drawn. The
  browser is already running.
- The time of a slider step at 512² with eight channels, to a slot that was not shown before. It
  ends with the browser frame that shows the last channel.
- The frames per second of playback at 256² with four channels. The target is 24.

One start, which does not count, warms up the page cache and Python's bytecode cache. CPU times are
those of the server. Every wait has a time limit.
"""

import argparse
import os
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS
from sdoml_core.formats.index import Index
from sdoml_core.formats.release_index import shard_facts, write_release_index
from sdoml_core.formats.shard import FrameFacts, ShardWriter

START = datetime(2010, 6, 1, tzinfo=UTC)
SLOTS = 96
CONSTANT = 4e4
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

LIMIT = 60.0
"""Maximum duration of any step, in seconds."""

WATCH = """() => {
  window.drawn = [];
  document.addEventListener("drawn", ({ detail }) => window.drawn.push(
    { at: performance.timeOrigin + performance.now(), size: detail.size }));
}"""
STEP = """([index, limit]) => new Promise((resolve, reject) => {
  const slider = document.getElementById("slot");
  const began = performance.now();
  setTimeout(() => reject(new Error(`slot ${index} was not drawn: `
    + document.getElementById("toast").textContent)), limit);
  document.addEventListener("drawn", ({ detail }) => requestAnimationFrame(
    () => resolve({ ms: performance.now() - began, size: detail.size })), { once: true });
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


@contextmanager
def running_viewer(folder: Path) -> Iterator[tuple[str, int, float]]:
    """Start the command, and yield the viewer's address, process ID and start time."""
    command = (sys.executable, "-m", "sdoml_cli", "view", str(folder), "--no-browser")
    began = time.time()
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode")}
    environment.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # as if the package were installed with its bytecode
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], LIMIT)
        if not ready:
            raise TimeoutError(f"sdoml view printed nothing within {LIMIT:.0f} s")
        yield process.stdout.readline().split()[-1], process.pid, began
    finally:
        process.terminate()
        process.wait(LIMIT)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def open_page(browser: Browser, address: str, scale: float = 1, **size: int) -> Iterator[Page]:
    """Open an address in a new context, and wait for the first picture."""
    context = browser.new_context(viewport=ViewportSize(**size), device_scale_factor=scale)
    context.set_default_timeout(LIMIT * 1000)
    page = context.new_page()
    page.add_init_script(f"({WATCH})()")
    page.goto(address, wait_until="commit")
    page.wait_for_function("() => window.drawn?.length")
    yield page
    context.close()


def measure_start(folder: Path, browser: Browser) -> tuple[float, float]:
    """Return the seconds from the command to the first picture, and the CPU time of the server."""
    with (
        running_viewer(folder) as (address, pid, began),
        open_page(browser, address, width=1440, height=900) as page,
    ):
        first = page.evaluate("window.drawn[0].at") / 1000
        return first - began, cpu_seconds(pid)


def measure_steps(folder: Path, browser: Browser, side: int) -> None:
    # With 1.5 device pixels per CSS pixel, eight panels of 340 pixels need 512².
    with (
        running_viewer(folder) as (address, pid, _),
        open_page(browser, address, 1.5, width=1440, height=900) as page,
    ):
        page.wait_for_function("() => Number(document.getElementById('slot').max) > 90")
        page.wait_for_load_state("networkidle")
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        used = cpu_seconds(pid)
        found = [page.evaluate(STEP, [number, LIMIT * 1000]) for number in range(5, 65)]
        used = cpu_seconds(pid) - used
    sizes = {step["size"] for step in found}
    assert sizes == {side}, f"frames of {sizes} instead of {side}"
    steps = sorted(step["ms"] for step in found)
    report(
        f"step at {side}², 8",
        f"{statistics.median(steps):.0f} ms, 95% {steps[int(0.95 * len(steps))]:.0f} ms; "
        f"{used / len(steps) * 1000:.0f} ms CPU and {len(requests) / len(steps):.1f} requests "
        "per step",
    )


def measure_playback(folder: Path, browser: Browser) -> None:
    names = ",".join(DEFAULT_CHANNELS[:4])
    day = (START + timedelta(days=1)).date()
    with (
        running_viewer(folder) as (address, pid, _),
        open_page(
            browser, f"{address}#t={day}T00:00&channels={names}", width=700, height=780
        ) as page,
    ):
        page.wait_for_function("() => Number(document.getElementById('slot').max) > 90")
        page.select_option("#speed", "24")
        used, before = cpu_seconds(pid), page.evaluate("window.drawn.length")
        page.click("#play")
        page.wait_for_function(f"() => window.drawn.length > {before + 90}")
        frames = page.evaluate("window.drawn")[before + 10 : before + 90]
        used = cpu_seconds(pid) - used
    sizes = {frame["size"] for frame in frames}
    assert sizes == {256}, f"frames of {sizes} instead of 256"
    gaps = np.diff([frame["at"] for frame in frames])
    report(
        "playback at 256², 4",
        f"{1000 / gaps.mean():.1f} frames/s of 24, longest gap {gaps.max():.0f} ms; "
        f"{used / 90 * 1000:.0f} ms CPU per frame",
    )


def report(name: str, text: str) -> None:
    print(f"{name:20}  {text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=6000)
    parser.add_argument("--repeat", type=int, default=5, help="number of starts to measure")
    parser.add_argument("--side", type=int, default=512)
    options = parser.parse_args()
    browser_path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary, "release")
        write_release(folder, options.shards, options.side)
        size = (folder / "index.parquet").stat().st_size / 1e6
        report(f"{options.shards} shards", f"index of {size:.0f} MB")
        report("load", " ".join(f"{load:.1f}" for load in os.getloadavg()))
        browser = playwright.chromium.launch(executable_path=browser_path, args=OPTIONS)
        starts = [measure_start(folder, browser) for _ in range(options.repeat + 1)][1:]
        seconds, used = (statistics.median(values) for values in zip(*starts, strict=True))
        fastest = min(start for start, _ in starts)
        report("first picture", f"{seconds:.2f} s after the command, fastest {fastest:.2f} s; "
               f"{used:.2f} s CPU")  # fmt: skip
        measure_steps(folder, browser, options.side)
        measure_playback(folder, browser)
        report("load", " ".join(f"{load:.1f}" for load in os.getloadavg()))
        browser.close()


if __name__ == "__main__":
    main()
