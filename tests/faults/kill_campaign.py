"""Kill runs with SIGKILL at random times, run them again and compare the stores.

``python tests/faults/kill_campaign.py --times 60 --output benchmarks/results/kills.md``
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

from sdoml_demo.files import default_cache
from sdoml_demo.server import Archive

DAY = "2024-03-08"
SMALL = {
    "SDOML_START": "2024-03-01",
    "SDOML_CADENCE_MINUTES": "120",
    "SDOML_CHANNELS": "AIA_0171,AIA_0193,AIA_1700,HMI_M",
    "SDOML_RESOLUTION": "256",
    "SDOML_THREADS": "2",
    "SDOML_RUN_RETRIES": "0",
    "DAGSTER_DISABLE_TELEMETRY": "1",
}
PROGRAM = """
import os, sys, warnings
warnings.simplefilter("ignore")
import dagster as dg
from tests.support.warm_imports import import_code, run_once
from sdoml_dagster.definitions import defs
import_code()
run_once()
assets = [a for a in defs.assets if isinstance(a, dg.AssetsDefinition)]
for day in sys.stdin:
    child = os.fork()
    if not child:
        done = dg.materialize(assets, partition_key=day.strip(), resources=dict(defs.resources))
        os._exit(not done.success)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Materializes all assets for each day on stdin, each in its own child process."""

STAGES = {
    "raw": "raw/*/*/*/*",
    "processed": "processed/*/*/*/*",
    "statistics": "normalization/*",
    "shards": "shards/*/*",
    "release": "releases/*/*",
}
"""Patterns of files that show that a stage has started. They also match partial files."""


class Runner:
    """Starts and kills runs of one deployment.

    Each run is a fork of a process that has already imported everything, so a kill interrupts the
    actual work and not the imports.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.store = Path(environment["SDOML_STORE"])
        self._server = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2])},
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
        """Start a run and return its process ID."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{day}\n")
        self._server.stdin.flush()
        return self._read()

    def finish(self) -> int:
        """Wait for the last run and return its exit code."""
        return self._read()

    def run(self) -> None:
        """Build the day; raise `RuntimeError` on failure."""
        self.start()
        if self.finish():
            raise RuntimeError(f"a run of {self.store} failed")

    def measure(self) -> dict[str, float]:
        """Return the seconds that each stage of a run takes."""
        shutil.rmtree(self.store, ignore_errors=True)
        self.start()
        begins = []
        for name in STAGES:
            self.wait_for(name)
            begins.append(time.monotonic())
        if self.finish():
            raise RuntimeError(f"a run of {self.store} failed")
        ends = [*begins[1:], time.monotonic()]
        return {name: end - begin for name, begin, end in zip(STAGES, begins, ends, strict=True)}

    def kill(self, name: str, seconds: float) -> int:
        """Kill a run some seconds after a stage starts and return the number of partial files."""
        process = self.start()
        self.wait_for(name)
        time.sleep(seconds)
        with suppress(ProcessLookupError):  # the process has already ended
            os.kill(process, signal.SIGKILL)
        self.finish()
        return sum(1 for _ in self.store.rglob(".*.partial"))

    def wait_for(self, name: str) -> None:
        """Wait until a stage has started."""
        while next(self.store.glob(STAGES[name]), None) is None:
            time.sleep(0.001)

    def _read(self) -> int:
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())


def snapshot(store: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a store, including hidden ones."""
    return {
        str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


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
            whole.run()  # fills the archive's cache, so that the durations are realistic
            durations = whole.measure()
            expected = snapshot(whole.store)
        same: Counter[str] = Counter()
        leftovers: Counter[str] = Counter()
        times = options.times // len(STAGES)
        with Runner(common | {"SDOML_STORE": str(place / "store")}) as runner:
            for name in STAGES:
                for _ in range(times):
                    shutil.rmtree(runner.store, ignore_errors=True)
                    leftovers[name] += runner.kill(name, moments.uniform(0, durations[name]))
                    runner.run()
                    same[name] += snapshot(runner.store) == expected
                print(f"{name}: {same[name]} of {times} identical", flush=True)

    lines = [
        "# Runs killed with SIGKILL",
        "",
        f"`python tests/faults/kill_campaign.py --times {options.times} --seed {options.seed}`",
        "",
        f"One day, {len(expected)} files from the raw frames to the release. Each run was killed "
        "at a random moment of a stage and then run again. The store, including partial files, was "
        "compared with that of an undisturbed run.",
        "",
        "| stage | duration (s) | kills | partial files left | byte-identical afterwards |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {durations[name]:.2f} | {times} | {leftovers[name]} | {same[name]} |"
            for name in STAGES
        ),
        "",
        f"**{same.total()} of {times * len(STAGES)} byte-identical.**",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    if options.output:
        options.output.write_text(text)
    sys.exit(same.total() != times * len(STAGES))


if __name__ == "__main__":
    main()
