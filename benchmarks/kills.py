"""Kill a run with SIGKILL at random moments, run it again, compare the stores byte by byte.

``python benchmarks/kills.py --times 60 --output benchmarks/results/kills.md``
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from sdoml_dagster.demo.archive import Archive
from sdoml_dagster.demo.frames import default_cache

DAY = "2024-03-08"
SMALL = {
    "SDOML_START": "2024-03-01",
    "SDOML_CADENCE_MINUTES": "120",
    "SDOML_CHANNELS": "AIA_0171,AIA_0193,AIA_1700,HMI_M",
    "SDOML_RESOLUTION": "64",
    "SDOML_THREADS": "2",
    "SDOML_RUN_RETRIES": "0",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
import dagster as dg
import numba, numpy, PIL.Image, pyarrow.ipc, pyarrow.parquet, requests
import sdoml_core.aia, sdoml_core.counting, sdoml_core.hmi
import sdoml_dagster.fetch, sdoml_dagster.pack, sdoml_dagster.process, sdoml_dagster.publish
from sdoml_dagster.definitions import defs
assets = [a for a in defs.assets if isinstance(a, dg.AssetsDefinition)]
dg.materialize([dg.asset(name="warm_up")(lambda: None)])
for day in sys.stdin:
    child = os.fork()
    if not child:
        done = dg.materialize(assets, partition_key=day.strip(), resources=dict(defs.resources))
        os._exit(not done.success)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""For each day on stdin all assets, from the archive to the release, in a child of its own."""

STAGES = {
    "release": "releases/*/*",
    "shards": "shards/*/*",
    "statistics": "normalization/*",
    "processed": "processed/*/*/*/*",
    "raw": "raw/*/*/*/*",
}


class Runner:
    """Runs of one deployment; imports are done once, so that kills meet the work itself."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.store = Path(environment["SDOML_STORE"])
        self._server = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def start(self, day: str = DAY) -> int:
        """Begin a run: its process."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{day}\n")
        self._server.stdin.flush()
        return self._read()

    def finish(self) -> int:
        """Wait for the run begun last: its exit code."""
        return self._read()

    def run(self) -> None:
        """One whole run; an error unless it succeeds."""
        self.start()
        if self.finish():
            raise RuntimeError(f"a run of {self.store} failed")

    def kill(self, seconds: float) -> tuple[str, int]:
        """Kill a run so long after its first file: its stage then, and half-written files left."""
        process = self.start()
        self.wait_for_first_file()
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # it was faster
            os.kill(process, signal.SIGKILL)
        self.finish()
        return stage(self.store), sum(1 for _ in self.store.rglob(".*.partial"))

    def measure(self) -> float:
        """Seconds of one whole run from its first file to its end."""
        shutil.rmtree(self.store)
        self.start()
        self.wait_for_first_file()
        began = time.monotonic()
        if self.finish():
            raise RuntimeError(f"a run of {self.store} failed")
        return time.monotonic() - began

    def wait_for_first_file(self) -> None:
        """Return as soon as anything is in the store."""
        while not any(path.is_file() for path in self.store.rglob("*")):
            time.sleep(0.002)

    def _read(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def snapshot(store: Path) -> dict[str, str]:
    """SHA-256 of every file of a store, hidden ones included."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


def stage(store: Path) -> str:
    """How far a killed run had come."""
    for name, pattern in STAGES.items():
        if next(store.glob(pattern), None) is not None:
            return name
    raise RuntimeError(f"{store} is empty")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    moments = random.Random(options.seed)

    with tempfile.TemporaryDirectory() as folder, Archive(cache=options.cache) as archive:
        roots = {"SDOML_AIA_ROOTS": archive.aia_root, "SDOML_HMI_ROOTS": archive.hmi_root}
        place = Path(folder)
        common = SMALL | roots
        with Runner(common | {"SDOML_STORE": str(place / "whole")}) as whole:
            whole.run()  # fills the archive's cache
            duration = whole.measure()
            expected = snapshot(whole.store)
        reached: Counter[str] = Counter()
        leftovers = broken = 0
        with Runner(common | {"SDOML_STORE": str(place / "store")}) as runner:
            for number in range(options.times):
                shutil.rmtree(runner.store, ignore_errors=True)
                where, halves = runner.kill(moments.uniform(0, duration))
                reached[where] += 1
                leftovers += halves
                runner.run()
                same = snapshot(runner.store) == expected
                broken += not same
                outcome = "same bytes" if same else "DIFFERENT"
                print(f"{number + 1:3d} killed in {where}: {outcome}", flush=True)

    lines = [
        "# Runs killed with SIGKILL",
        "",
        f"`python benchmarks/kills.py --times {options.times} --seed {options.seed}`",
        "",
        f"One day, {len(expected)} files from the raw frames to the release; {duration:.1f} s from "
        f"the first to the last. Each run was killed at a random moment, then run again.",
        "",
        "| killed while writing | times |",
        "|---|---|",
        *(f"| {name} | {reached[name]} |" for name in reversed(STAGES)),
        "",
        f"Half-written files that the kills left: {leftovers}. "
        f"After the second run: **{options.times - broken} of {options.times} stores "
        "byte-identical to that of a run that nobody killed**, leftovers included in the count.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.output:
        options.output.write_text(text)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
