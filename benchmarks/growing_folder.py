"""Soak test: readers open a folder of shards while a writer adds and replaces days.

``python -m benchmarks.growing_folder --seconds 3600`` starts one writer and two readers and prints
what they did. The writer adds days, rewrites old days with the same bytes or with more slots, and
rebuilds a release as the job `make_release` does. Each reader repeatedly opens the folder and
compares the pixels of random samples with the pixels that were written. It also keeps two datasets
that it opened at the start, one of the folder and one of the release. Their content must not
change.

If a shard's content is replaced between opening and reading, readers get a `DamagedFileError`,
which they count. Any other error ends the test with exit code 1.
"""

import argparse
import dataclasses
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np

from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.release_index import consolidate
from sdoml_core.loader import BatchLoader, SDOMLlite
from tests.support.synthetic_shards import FIRST, at, frame, write_day

CHANNELS = ("AIA_0171", "HMI_M")
SIDE = 8
RELEASE_DAYS = 3


def put(folder: Path, number: int, hours: int) -> None:
    """Write a day as the store does: shard before index, each by renaming a complete file."""
    day = FIRST + timedelta(days=number)
    temporary = folder.parent / "temporary"
    write_day(temporary, day, channels=CHANNELS, hours=hours, side=SIDE)
    year = folder / f"{day:%Y}"
    year.mkdir(parents=True, exist_ok=True)
    for suffix in (".tar", ".parquet"):
        name = f"sdoml-lite-{day}{suffix}"
        (temporary / name).replace(year / name)


def make_release(folder: Path, hours: int) -> None:
    """Rebuild a release: the index is removed first and written last."""
    temporary = folder.parent / "temporary"
    folder.mkdir(exist_ok=True)
    (folder / "index.parquet").unlink(missing_ok=True)
    indexes = []
    for number in range(RELEASE_DAYS):
        day = FIRST + timedelta(days=number)
        index = write_day(temporary, day, channels=CHANNELS, hours=hours, side=SIDE, index=False)
        name = f"sdoml-lite-{number + 1:03d}.tar"
        (temporary / index.shard).replace(folder / name)
        indexes.append(dataclasses.replace(index, shard=name))
    (temporary / "index.parquet").write_bytes(consolidate(indexes))
    (temporary / "index.parquet").replace(folder / "index.parquet")


def write(root: Path, until: float, pause: float) -> dict[str, int]:
    """Add and replace days until the time is up."""
    counts: Counter[str] = Counter()
    rng = random.Random(0)
    hours = {0: 1}
    while time.monotonic() < until:
        hours[len(hours)] = 1
        put(root / "shards", len(hours) - 1, 1)
        counts["days added"] += 1
        number = rng.randrange(len(hours))
        if rng.random() < 0.3:
            hours[number] += 1
            counts["days replaced by longer ones"] += 1
        else:
            counts["days rewritten unchanged"] += 1
        put(root / "shards", number, hours[number])
        if counts["days added"] % 10 == 0:
            make_release(root / "release", 1 + counts["releases"] % 3)
            counts["releases"] += 1
        time.sleep(pause)
    return dict(counts)


def check(sample: tuple) -> None:
    tensor, moment = sample[:2]
    for pixels, channel in zip(tensor, CHANNELS, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), frame(at(moment), channel, SIDE))


def content(dataset: SDOMLlite) -> tuple[str, str, int, list[str]]:
    """Return the properties of a dataset that must not change."""
    facts = [str(dataset.facts(number)) for number in range(0, len(dataset), 3)]
    return repr(dataset), str(dataset.coverage()), len(dataset), facts


def read(root: Path, until: float, pause: float, seed: int) -> dict[str, int]:
    """Open and read the folder until the time is up."""
    counts: Counter[str] = Counter()
    rng = random.Random(seed)
    kept = [SDOMLlite(root / name, CHANNELS) for name in ("shards", "release")]
    before = [content(dataset) for dataset in kept]
    for dataset in kept:  # opens the shards, so that they stay readable when they are replaced
        check(dataset[0])
    while time.monotonic() < until:
        dataset = SDOMLlite(root / "shards", CHANNELS)
        counts["openings"] += 1
        counts["largest"] = max(counts["largest"], len(dataset))
        assert len(dataset.coverage().complete) >= 1
        repr(dataset)
        try:
            for number in (0, -1, *(rng.randrange(len(dataset)) for _ in range(6))):
                check(dataset[number])
                counts["samples"] += 1
            batch, times = next(iter(BatchLoader(dataset, 4, shuffle=True, seed=rng.randrange(99))))
            for tensor, moment in zip(batch, times, strict=True):
                check((tensor, moment))
                counts["samples"] += 1
        except DamagedFileError as error:
            if "its index says" not in str(error):
                raise
            counts["shards replaced between opening and reading"] += 1
        assert [content(dataset) for dataset in kept] == before
        for one in kept:
            check(one[0])
        time.sleep(pause)
    return dict(counts)


def work(task: Callable[..., dict[str, int]], name: str, *arguments: object) -> None:
    """Run a task in this process and print its result. An error results in exit code 1."""
    # A day whose index has not been written yet is skipped with a warning.
    warnings.filterwarnings("ignore", message="these files are skipped")
    print(json.dumps({name: task(*arguments)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between two steps")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="sdoml-soak-"))
    try:
        put(root / "shards", 0, 1)
        make_release(root / "release", 1)
        until = time.monotonic() + options.seconds
        tasks = [(read, f"reader {seed}", root, until, options.pause, seed) for seed in (1, 2)]
        tasks.append((write, "writer", root, until, 5 * options.pause))
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=work, args=task) for task in tasks]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        shutil.rmtree(root, ignore_errors=True)
    sys.exit(int(any(process.exitcode for process in processes)))


if __name__ == "__main__":
    main()
