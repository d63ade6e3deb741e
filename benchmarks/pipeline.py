"""Compare this pipeline with the original scripts, from raw files to a normalized shard.

    python -m benchmarks.pipeline [--cadence 15] [--rounds 3]

The reference works like the original scripts: worker processes take one frame at a time, warp it
with scikit-image and write an unnormalized ``.npy``. Then the maximum of each channel is computed,
every file is read, normalized and written again, and a tar is packed from the files. Both methods
use the same raw files (one day of the simulated archive) and the same two cores, and take turns.
Each turn is a separate process, so that its CPU time and peak memory can be measured.
"""

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from statistics import median

import numpy as np
from astropy.io import fits
from PIL import Image

from sdoml_core.channels import CHANNELS, INSTRUMENTS, Instrument
from sdoml_core.formats.ledger import RAW_LEDGER, RawRow
from sdoml_core.formats.members import member_name
from sdoml_core.frames.degradation import DegradationTable
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo.server import Archive
from tests.support.original import original_aia, original_hmi

DAY = date(2024, 3, 8)
CORES = 2


@dataclass(frozen=True)
class Cost:
    """Cost of one turn."""

    frames: int
    wall: float
    cpu: float
    peak_mib: float


def ours(folder: Path, out: Path, *, days: int, threads: int, cadence: int) -> int:
    settings = _settings(out, cadence, threads)
    store = Store(str(out))
    (out / "raw").symlink_to(folder / "raw")
    frames = 0
    for day in _days(days):
        for instrument in INSTRUMENTS:
            rows = process_day(day, instrument, settings=settings, store=store, report=_quiet).rows
            frames += sum(row.status == "ok" for row in rows)
    freeze(store, fit_store(settings, store).normalization, replace=True)
    for day in _days(days):
        pack_day(day, settings=settings, store=store, report=_quiet)
    return frames


def original(folder: Path, out: Path, *, days: int, threads: int, cadence: int) -> int:  # noqa: ARG001
    """Do the work of the five scripts, with the same frames and the geometric HMI scale."""
    store = Store(str(folder))
    rows = [
        row
        for day in _days(days)
        for instrument in INSTRUMENTS
        for row in StoredDay(store, day).ledger(instrument) or []
        if row.status == "ok"
    ]
    table = DegradationTable.default()
    jobs = []
    for row in rows:
        channel = CHANNELS[row.channel]
        factor = (
            table.factor(row.slot.date(), channel.wavelength)
            if channel.instrument == "AIA"
            else 1.0
        )
        source = folder / layout.raw_folder(row.slot.date()) / str(row.file)
        target = out / "unnormalized" / member_name(row.slot, channel)
        target.parent.mkdir(parents=True, exist_ok=True)
        (out / "normalized" / member_name(row.slot, channel)).parent.mkdir(
            parents=True, exist_ok=True
        )
        jobs.append((source, target, row.rsun_obs, factor, row.channel))
    with multiprocessing.get_context("fork").Pool(CORES) as pool:
        maxima: dict[str, float] = {}
        for channel, maximum in pool.imap_unordered(_warp_and_save, jobs):
            maxima[channel] = max(maxima.get(channel, 0.0), maximum)
        pool.map(_normalize, [(job[1], maxima[job[4]], job[4]) for job in jobs])
    with tarfile.open(out / "shard.tar", "w") as tar:
        for path in sorted((out / "normalized").rglob("*.npy")):
            tar.add(path, str(path.relative_to(out / "normalized")))
    return len(jobs)


def _warp_and_save(job: tuple[Path, Path, float, float, str]) -> tuple[str, float]:
    source, target, rsun_obs, factor, channel = job
    if source.suffix == ".fits":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(source) as hdus:
                hdus[1].verify("silentfix")
                exposure = hdus[1].header["EXPTIME"]
                image = hdus[1].data
        frame = original_aia(
            image, exposure=exposure, rsun_obs=rsun_obs, degradation=factor, resolution=512
        )
    else:
        rgb = np.asarray(Image.open(source))
        frame = original_hmi(rgb, rsun_obs=rsun_obs, scale=2.0168 / 2.4, resolution=512)
    np.save(target, frame)
    return channel, float(frame.max())


def _normalize(job: tuple[Path, float, str]) -> None:
    path, maximum, channel = job
    frame = np.load(path)
    if channel != "HMI_M":
        frame = np.minimum(np.sqrt(frame), np.sqrt(maximum)) / np.sqrt(maximum)
    parts = list(path.parts)
    parts[parts.index("unnormalized")] = "normalized"
    np.save(Path(*parts), frame.astype(np.float32))


def prepare(folder: Path, *, days: int, cadence: int) -> None:
    """Fetch one day from the simulated archive; further days are links to its frames."""
    settings = _settings(folder, cadence, CORES)
    store = Store(str(folder))
    with Archive(absences=False) as archive:
        for instrument, root in (("AIA", archive.aia_root), ("HMI", archive.hmi_root)):
            with ArchiveClient([root], connections=4) as client:
                fetch_day(
                    DAY, instrument, settings=settings, store=store, client=client, report=_quiet
                )
    for day in _days(days)[1:]:
        for instrument in INSTRUMENTS:
            _link_day(store, folder, day, instrument)


def _link_day(store: Store, folder: Path, day: date, instrument: Instrument) -> None:
    target = folder / layout.raw_folder(day)
    target.mkdir(parents=True, exist_ok=True)
    rows: list[RawRow] = []
    for row in StoredDay(store, DAY).ledger(instrument) or []:
        if row.file is not None and not (target / row.file).exists():
            os.link(folder / layout.raw_folder(DAY) / row.file, target / row.file)
        rows.append(replace(row, slot=row.slot + (day - DAY)))
    store.write(layout.raw_ledger(day, instrument), RAW_LEDGER.encode(rows))


def _settings(store: Path, cadence: int, threads: int) -> Settings:
    return Settings.load(store=str(store), start=str(DAY), cadence_minutes=cadence, threads=threads)


def _days(count: int) -> list[date]:
    return [DAY + timedelta(days=n) for n in range(count)]


def _quiet(_: str) -> None:
    pass


WAYS: dict[str, Callable[..., int]] = {"ours": ours, "original": original}


def turn(way: str, folder: Path, *, days: int = 1, threads: int = CORES, cadence: int) -> Cost:
    """Run one method in a separate process, with a new output folder beside the raw files."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as out:
        command = [sys.executable, "-m", "benchmarks.pipeline", "--turn", way, str(folder), out]
        command += [str(days), str(threads), str(cadence)]
        os.sync()  # finish pending writes of earlier turns before measuring
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Cost(**json.loads(done.stdout))


def _take_turn(arguments: list[str]) -> None:
    way, folder, out, days, threads, cadence = arguments
    # Imports and compilation cost the same for a day and for a decade, so they are excluded.
    _warm_up(Path(folder), Path(out) / "warm")
    before, started = _cpu(), time.perf_counter()
    (Path(out) / "turn").mkdir()
    frames = WAYS[way](
        Path(folder), Path(out) / "turn", days=int(days), threads=int(threads), cadence=int(cadence)
    )
    wall, cpu = time.perf_counter() - started, _cpu() - before
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps(asdict(Cost(frames, wall, cpu, max(_peak_mib(), workers)))))


def _peak_mib() -> float:
    """Return the peak memory since exec; ``ru_maxrss`` would include the parent's memory."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) / 1024


def _warm_up(folder: Path, out: Path) -> None:
    out.mkdir()
    ours(folder, out, days=1, threads=1, cadence=720)


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cadence", type=int, default=15, help="minutes between slots")
    parser.add_argument("--rounds", type=int, default=3, help="number of turns of each method")
    parser.add_argument(
        "--folder",
        type=Path,
        default=None,
        help="folder for temporary files (default: the system's)",
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        folder = Path(temporary) / "store"
        folder.mkdir()
        prepare(folder, days=16, cadence=60)
        prepare(folder, days=1, cadence=options.cadence)
        ways = {
            "the original's method": lambda: turn("original", folder, cadence=options.cadence),
            "ours, 2 threads": lambda: turn("ours", folder, cadence=options.cadence),
            "ours, 1 thread": lambda: turn("ours", folder, threads=1, cadence=options.cadence),
        }
        costs: dict[str, list[Cost]] = {name: [] for name in ways}
        ceilings = []
        for _ in range(options.rounds):
            for name, run in ways.items():
                costs[name].append(run())
            ceilings.append(_ceiling(ways["ours, 1 thread"], costs["ours, 1 thread"][-1]))
        print(f"{costs['ours, 2 threads'][0].frames} frames; medians of {options.rounds} turns")
        print(f"{'':22}{'CPU ms/frame':>14}{'wall s':>10}{'peak MiB':>10}")
        for name, all_turns in costs.items():
            best = _median(all_turns)
            print(
                f"{name:22}{1e3 * best.cpu / best.frames:>14.1f}{best.wall:>10.2f}"
                f"{best.peak_mib:>10.0f}"
            )
        reference, two, one = (_median(turns) for turns in costs.values())
        print(f"CPU per frame: {reference.cpu / two.cpu:.1f}× less")
        print(f"wall clock:    {reference.wall / two.wall:.1f}× less")
        print(
            f"two threads:   {one.wall / two.wall:.2f}× one thread "
            f"(two processes with one thread each: {median(ceilings):.2f}×)"
        )
        print("\ndays (hourly)   wall s   s/day   peak MiB")
        for days in (1, 4, 16):
            cost = turn("ours", folder, days=days, cadence=60)
            print(f"{days:>13}{cost.wall:>9.2f}{cost.wall / days:>8.3f}{cost.peak_mib:>11.0f}")


def _ceiling(run: Callable[[], Cost], alone: Cost) -> float:
    """Return the speed of two concurrent, independent processes, as a multiple of one process."""
    with ThreadPoolExecutor(CORES) as pool:
        together = [turn.result() for turn in [pool.submit(run) for _ in range(CORES)]]
    return CORES * alone.wall / max(cost.wall for cost in together)


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        costs[0].frames,
        median(cost.wall for cost in costs),
        median(cost.cpu for cost in costs),
        median(cost.peak_mib for cost in costs),
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--turn"]:
        _take_turn(sys.argv[2:])
    else:
        main()
