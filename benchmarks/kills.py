"""Kill a run with SIGKILL at random moments, run it again, compare the stores byte by byte.

``python benchmarks/kills.py --times 60 --output benchmarks/results/kills.md``
"""

import argparse
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

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
import sys, warnings
warnings.simplefilter("ignore")
import dagster as dg
import numba, pyarrow.parquet, requests, PIL.Image
from sdoml_dagster.definitions import defs
print("begin", flush=True)
assets = [a for a in defs.assets if isinstance(a, dg.AssetsDefinition)]
done = dg.materialize(assets, partition_key=sys.argv[1], resources=dict(defs.resources))
sys.exit(not done.success)
"""
"""All assets of one day, from the archive to the release, in one process."""

STAGES = {
    "release": "releases/*/*",
    "shards": "shards/*/.*.partial",
    "statistics": "normalization/*",
    "processed": "processed/*/*/*/*",
    "raw": "raw/*/*/*/*",
}


def start(environment: Mapping[str, str], day: str = DAY) -> subprocess.Popen[str]:
    """A run in a process of its own, once its imports are done."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, day],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline() != "begin\n":
        raise RuntimeError(process.communicate()[1])
    return process


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run; an error unless it succeeds."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)


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
    return "before the first file"


def kill_at(environment: Mapping[str, str], seconds: float) -> tuple[str, int]:
    """Kill a run some seconds after its begin: its stage then, and the half-written files left."""
    store = Path(environment["SDOML_STORE"])
    process = start(environment)
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    process.communicate()
    return stage(store), sum(1 for _ in store.rglob(".*.partial"))


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
        store = Path(folder, "store")
        whole = SMALL | roots | {"SDOML_STORE": str(Path(folder, "whole"))}
        finish(start(whole))  # fills the archive's cache
        shutil.rmtree(whole["SDOML_STORE"])
        process = start(whole)
        began = time.monotonic()
        finish(process)
        duration = time.monotonic() - began
        expected = snapshot(Path(whole["SDOML_STORE"]))
        environment = SMALL | roots | {"SDOML_STORE": str(store)}
        reached: Counter[str] = Counter()
        leftovers = broken = 0
        for number in range(options.times):
            shutil.rmtree(store, ignore_errors=True)
            where, halves = kill_at(environment, moments.uniform(0, duration))
            reached[where] += 1
            leftovers += halves
            finish(start(environment))
            same = snapshot(store) == expected
            broken += not same
            print(f"{number + 1:3d} killed in {where}: {'same bytes' if same else 'DIFFERENT'}")

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
        *(f"| {name} | {reached[name]} |" for name in (*reversed(STAGES), "before the first file")),
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
