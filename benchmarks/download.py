"""Measure the download of a day at a latency of 100 ms, compared with plain requests.

``python -m benchmarks.download --output benchmarks/results/download.md``

The target is 90% of the rate of a reference, which is measured in the same run: threads that
request the same files from the same server with a plain ``requests.Session`` and discard the data.
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median

import requests

from sdoml_core.slots import paired_minute
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.tree import archive_path
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store
from sdoml_demo.files import Frames, default_cache

DAY = date(2024, 3, 8)
TREE = "/data/aia/synoptic/"


class Handler(BaseHTTPRequestHandler):
    """Serves a day from memory after a delay."""

    protocol_version = "HTTP/1.1"
    files: dict[str, bytes]
    latency: float

    def do_GET(self) -> None:
        """Send one file."""
        time.sleep(self.latency)
        body = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server that accepts many connections from a client at the same time."""

    daemon_threads = True
    request_queue_size = 64


def timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--cadence", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    settings = Settings(
        cadence_minutes=options.cadence,
        channels=("AIA_0094", "AIA_0131", "AIA_0171", "AIA_0193", "AIA_0211"),
        max_connections=options.connections,
        aia_tolerance_minutes=0,
    )
    frames = Frames(options.cache, absences=False)
    files = {}
    for slot in settings.expected_slots(DAY):
        for channel in settings.channels_of("AIA"):
            path = TREE + archive_path(channel, paired_minute(channel, slot))
            data = frames.get(path)
            assert data is not None
            files[path] = data
    Handler.files, Handler.latency = files, options.latency
    with Server(("127.0.0.1", 0), Handler) as server:
        # Use a separate process, so that client and server do not share an interpreter lock.
        process = multiprocessing.get_context("fork").Process(target=server.serve_forever)
        process.start()
        root = f"http://127.0.0.1:{server.server_address[1]}"

        def bare() -> None:
            with (
                requests.Session() as session,
                ThreadPoolExecutor(options.connections) as pool,
            ):
                adapter = requests.adapters.HTTPAdapter(pool_maxsize=options.connections)
                session.mount("http://", adapter)
                list(pool.map(lambda path: len(session.get(root + path).content), files))

        def ours() -> None:
            with (
                tempfile.TemporaryDirectory() as folder,
                ArchiveClient([root + TREE], connections=options.connections) as client,
            ):
                outcome = fetch_day(
                    DAY,
                    "AIA",
                    settings=settings,
                    store=Store(folder),
                    client=client,
                    report=lambda _: None,
                )
                assert outcome.counts == {"ok": len(files)}

        ours()  # compiles the decoder
        references, times = [], []
        for _ in range(options.rounds):
            references.append(timed(bare))
            times.append(timed(ours))
        process.kill()
    ideal = len(files) / options.connections * options.latency
    reference, mine = median(references), median(times)
    volume = sum(map(len, files.values())) / 2**20
    lines = [
        "# Download",
        "",
        f"`python -m benchmarks.download --connections {options.connections} "
        f"--latency {options.latency} --cadence {options.cadence} --rounds {options.rounds}`",
        "",
        f"{len(files)} AIA frames, {volume:.0f} MiB, {options.connections} connections, "
        f"{options.latency * 1000:.0f} ms added to each response. Client and server share this "
        f"machine's {os.cpu_count()} cores with other work (load {load:.1f} before the run). "
        f"The two methods take turns; the times are medians of {options.rounds} rounds.",
        "",
        "| | s | frames/s |",
        "|---|---|---|",
        f"| latency alone, no transfer | {ideal:.2f} | {len(files) / ideal:.1f} |",
        f"| plain requests, data discarded (latency + transfer) | {reference:.2f} "
        f"| {len(files) / reference:.1f} |",
        "| `fetch_day`: decoded, checksums verified, flushed to disk, recorded in the ledger "
        f"| {mine:.2f} | {len(files) / mine:.1f} |",
        "",
        f"`fetch_day` reaches **{reference / mine:.1%} of the rate of plain requests**, and "
        f"{ideal / mine:.1%} of {options.connections} frames per {options.latency * 1000:.0f} ms.",
        "",
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
