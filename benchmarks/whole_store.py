"""Cost of the commands that cover a whole store, at the full cadence.

    python -m benchmarks.whole_store [--days 1200] [--cadence 15]

One day of 64×64 frames is built from the simulated archive and repeated: each further day gets
copies of the ledgers, tables and indexes with its own date, and hard links to the frames and the
shard. The links need no disk space, so the raw frames of all days can exist at the same time. Then
these commands run, each in its own process: adopt, release without the last day, release, prune,
verify and adopt again. At the end, the loader opens the release and reads samples in random order.

The members of the repeated shards have the first day's names. Only a release with more than one day
per shard would read them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np

from benchmarks.release import FIRST, build_first_day, move_row, repeat_day
from sdoml_core.channels import CHANNELS, INSTRUMENTS
from sdoml_core.formats.index import decode_index
from sdoml_core.formats.ledger import RAW_LEDGER, RawRow
from sdoml_core.loader import SDOMLlite
from sdoml_dagster.archive.tree import archive_path
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

SDOML = Path(sys.executable).parent / "sdoml"
MEASURE = """
import json, os, sys, time
begin = time.perf_counter()
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(process, 0)
seconds = time.perf_counter() - begin
print(json.dumps([status, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""Runs a command in a small process, because the peak memory of a process includes that of the
process that started it."""

SAMPLES = 1000
"""Number of samples that the loader reads."""


def repeat_files(folder: Path, days: int) -> None:
    """Link the first day's frames for each further day, and write dated copies of its ledgers."""
    store = Store(str(folder))
    ledgers = {i: RAW_LEDGER.decode(store.read(layout.raw_ledger(FIRST, i))) for i in INSTRUMENTS}
    processed = [
        path
        for path in (folder / layout.processed_folder(FIRST)).iterdir()
        if path.suffix in {".npy", ".arrow"}
    ]
    for number in range(1, days):
        later = timedelta(days=number)
        day = FIRST + later
        for instrument, rows in ledgers.items():
            dated = [_move(row, later) for row in rows]
            store.write(layout.raw_ledger(day, instrument), RAW_LEDGER.encode(dated))
            for old, new in zip(rows, dated, strict=True):
                if old.file is not None and new.file is not None:
                    os.link(
                        folder / layout.raw_folder(FIRST) / old.file,
                        folder / layout.raw_folder(day) / new.file,
                    )
        for path in processed:
            os.link(path, folder / layout.processed_folder(day) / path.name)


def _move(row: RawRow, later: timedelta) -> RawRow:
    moved = move_row(row, later)
    if row.file is None:
        return moved
    path = archive_path(CHANNELS[row.channel], moved.slot)
    return replace(moved, file=path.rpartition("/")[2], url=f"http://archive/{path}")


def run(command: list[str], environment: Mapping[str, str]) -> None:
    """Run a command and print its costs."""
    measured = subprocess.run(
        [sys.executable, "-S", "-c", MEASURE, *command],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = measured.stdout.splitlines()
    status, wall, used, peak = json.loads(last)
    if status:
        raise SystemExit("\n".join([f"{' '.join(command)} failed:", *lines, measured.stderr]))
    home = _size(Path(environment["DAGSTER_HOME"])) / 2**20
    name = " ".join(["sdoml", *command[1:]])
    print(f"{name:46}{wall:9.1f}{used:9.1f}{peak:10.0f}{home:10.1f}", flush=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_samples(release: Path, expected: int) -> None:
    """Open the release with the loader, and read samples in random order."""
    begin = time.perf_counter()
    dataset = SDOMLlite(release)
    opened = time.perf_counter() - begin
    if len(dataset) != expected:
        raise SystemExit(f"the loader found {len(dataset)} samples instead of {expected}")
    for index in np.random.default_rng(1).integers(0, expected, SAMPLES).tolist():
        dataset[index]
    reading = (time.perf_counter() - begin - opened) / SAMPLES
    print(
        f"The loader opened {expected} samples in {opened:.2f} s and read a random sample in "
        f"{reading * 1000:.2f} ms."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=1200)
    parser.add_argument("--cadence", type=int, default=15, help="minutes between slots")
    options = parser.parse_args()
    days, cadence = options.days, options.cadence
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        build_first_day(folder, cadence, keep_raw=True)
        repeat_day(folder, days)
        repeat_files(folder, days)
        home = Path(temporary) / "home"
        home.mkdir()
        environment = os.environ | {
            "DAGSTER_HOME": str(home),
            "SDOML_STORE": str(folder),
            "SDOML_START": f"{FIRST}",
            "SDOML_END": f"{FIRST + timedelta(days=days)}",
            "SDOML_CADENCE_MINUTES": str(cadence),
            "SDOML_RESOLUTION": "64",
            "SDOML_THREADS": "2",
        }
        last = FIRST + timedelta(days=days - 2)
        print(f"{days} days, a slot every {cadence} minutes, 64×64 pixels")
        print(f"{'':46}{'wall, s':>9}{'CPU, s':>9}{'peak, MiB':>10}{'home, MiB':>10}")
        sdoml = str(SDOML)
        run([sdoml, "adopt"], environment)
        run([sdoml, "release", "--days", f"{FIRST}..{last}"], environment)
        run([sdoml, "release"], environment)
        run([sdoml, "prune", "--delete"], environment)
        left = [
            path for path in (folder / layout.RAW).rglob("*") if path.suffix in {".fits", ".jpg"}
        ]
        if left:
            raise SystemExit(f"prune left {len(left)} raw frames, such as {left[0]}")
        run([sdoml, "verify"], environment)
        run([sdoml, "adopt"], environment)
        index = decode_index(Store(str(folder)).read(layout.shard_index(FIRST)))
        frames = Counter(index.table.column("slot").to_pylist())
        complete = len(index.table.column("channel").unique())
        samples = list(frames.values()).count(complete)  # samples that have every channel
        read_samples(folder / layout.RELEASES / "sdoml-lite", days * samples)


if __name__ == "__main__":
    main()
