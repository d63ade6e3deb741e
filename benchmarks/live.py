"""Measure the near-real-time dataset: latency, faults, kills, a soak, and Dagster's overhead.

A simulated archive with a simulated clock runs on loopback. ``python -m benchmarks.live --help``
lists the parts; each part prints a table for ``benchmarks/results/live.md``.
"""

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil

from sdoml_core.channels import CHANNELS, DEFAULT_CHANNELS
from sdoml_core.ephemeris import hmi_observed, solar_radius
from sdoml_core.errors import SdomlError
from sdoml_core.formats.live_table import LIVE_TABLE
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.degradation import DegradationTable
from sdoml_core.frames.flags import is_provisional
from sdoml_core.frames.grid import GEOMETRIC_SCALE
from sdoml_core.frames.hmi import LABEL, decode_hmi, process_hmi
from sdoml_core.loader import LiveDataset, SDOMLlite
from sdoml_core.loader.storage.catalog import Catalog
from sdoml_core.normalization.transform import normalize
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.tree import archive_path, live_path
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.live.run import find_news, update_window
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.clock import Clock
from sdoml_demo.faults import RETRIED, Fault, FaultPlan
from sdoml_demo.files import HMI_TREE, default_cache
from sdoml_demo.live_tree import LivePlan, LiveTree
from sdoml_demo.server import Archive
from tests.support.live import constants_for

START = datetime(2026, 3, 30, 20, tzinfo=UTC)
STEP = timedelta(minutes=3)
HOUR = timedelta(hours=1)
FEW = ("AIA_0171", "AIA_0193", "HMI_M")


EPOCH = datetime(2010, 1, 1, tzinfo=UTC)


def nothing_before_start():
    """Return silent times for an archive that is empty at the start, to render fewer frames."""
    return {name: [(EPOCH, START)] for name in CHANNELS}


def settings_for(archive, store, **overrides):
    return Settings.load(
        **{
            "store": str(store),
            "aia_roots": (archive.aia_root,),
            "hmi_roots": (archive.hmi_root,),
            "channels": FEW,
            "resolution": 64,
            "threads": 2,
            "connect_timeout": 5.0,
            "read_timeout": 5.0,
        }
        | overrides
    )


def clients_for(settings):
    roots = {"AIA": settings.aia_roots, "HMI": settings.hmi_roots}
    return {
        name: ArchiveClient(roots[name], connections=4, attempts=2, read_timeout=5.0, pause=0.02)
        for name in settings.instruments
    }


def tick(settings, now):
    """Check for new frames, and update if there are any, as the schedule and its run do."""
    store = Store(settings.store)
    if not find_news(settings, store, clients_for(settings), now=now):
        return None
    return update_window(
        settings=settings,
        store=store,
        clients=clients_for(settings),
        now=now,
        report=lambda _: None,
    )


def rows_of(settings, *, newer_than=None):
    store = Store(settings.store)
    found = {}
    for path in store.find(layout.LIVE_FRAMES):
        if path.endswith(".parquet"):
            for row in LIVE_TABLE.decode(store.read(path)):
                if newer_than is None or row.slot >= newer_than:
                    found[row.slot, row.channel] = row
    return found


@contextmanager
def workspace():
    folder = Path(tempfile.mkdtemp(prefix="sdoml-live-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def read_on(folder, channels, stop, results):
    """Read the newest windows until told to stop, and count empty and changed frames."""
    seen, windows, errors = {}, 0, []
    dataset = None
    while not stop.is_set():
        try:
            dataset = dataset or LiveDataset(folder, channels)
            window = dataset.latest(past=4)
        except SdomlError as error:
            if "index.parquet" not in str(error) and "no slot" not in str(error):
                errors.append(f"{type(error).__name__}: {error}")
            time.sleep(0.05)
            continue
        windows += 1
        for number, slot in enumerate(window.times):
            for channel, present in enumerate(window.mask[number].tolist()):
                frame = window.frames[number, channel]
                if present and not float(frame.max()) > 0:
                    errors.append(f"{slot} {channel}: empty")
                if present:
                    digest = hash(frame.numpy().tobytes())
                    seen.setdefault((slot, channels[channel]), set()).add(digest)
        time.sleep(0.05)
    results.put((windows, len(seen), sum(len(d) > 1 for d in seen.values()), errors[:5]))


def hours48(options):
    """Follow the archive for two days with faults, while other processes read the window."""
    hours = options.hours
    plan = LivePlan(
        seed=1,
        absences=True,
        silent=nothing_before_start()
        | {"AIA_0193": [(EPOCH, START), (START + 10 * HOUR, START + 15 * HOUR)]},
        down=[(START + 20 * HOUR, START + 23 * HOUR)],
    )
    kinds = [fault for fault in RETRIED if fault not in {Fault.STALL, Fault.TRICKLE}]
    faults = FaultPlan(rates=dict.fromkeys(kinds, 0.15 / len(kinds)), seed=1, retry_after=0)
    clock = Clock(START, speed=0)
    with (
        workspace() as folder,
        Archive(cache=options.cache, clock=clock, live=plan, faults=faults) as archive,
    ):
        settings = settings_for(archive, folder / "store")
        freeze(Store(settings.store), constants_for(settings), replace=False)
        stop, results = multiprocessing.Event(), multiprocessing.Queue()
        readers = [
            multiprocessing.Process(
                target=read_on, args=(folder / "store/live", FEW, stop, results), daemon=True
            )
            for _ in range(options.readers)
        ]
        for reader in readers:
            reader.start()
        tick(settings, clock.now())
        # Frames that are present at the start are not counted as published.
        waits, works, idle = [], [], []
        known = {key for key, row in rows_of(settings).items() if row.status == "ok"}
        step = timedelta(seconds=options.interval)
        for _ in range(hours * HOUR // step):
            clock.advance(step)
            now, began, before = clock.now(), time.monotonic(), len(archive.log.requests)
            done = tick(settings, now)
            if done is None:
                idle.append(len(archive.log.requests) - before)
                continue
            works.append(time.monotonic() - began)
            for hour_rows in done.rows.values():
                for row in hour_rows:
                    key = (row.slot, row.channel)
                    if row.status == "ok" and key not in known:
                        known.add(key)
                        waits.append((now - row.published).total_seconds())
        stop.set()
        read = [results.get(timeout=120) for _ in readers]
        for reader in readers:
            reader.join()
        wrong, compared = wrong_frames(settings, archive)
        rows = rows_of(settings)
        files = [row.file for row in rows.values() if row.status == "ok"]
        missing = {}
        for row in rows.values():
            if row.status != "ok" and START <= row.slot < clock.now() - 2 * HOUR:
                missing.setdefault(row.channel, []).append(row.reason)
    ordered = sorted(waits)
    print(f"simulated hours                          {hours}")
    print(f"frames published                         {len(waits)}")
    print(f"polling interval                         {step}")
    print(f"delay from readable to tick, median      {statistics.median(waits):.0f} s")
    print(f"delay from readable to tick, 90%         {ordered[int(0.9 * len(ordered))]:.0f} s")
    print(f"from tick to published, median           {statistics.median(works):.2f} s")
    print(f"ticks without new frames                 {len(idle)}, at most {max(idle)} requests")
    print(f"frames compared with the archive's       {compared}, wrong: {wrong}")
    print(f"files used for two slots                 {len(files) - len(set(files))}")
    print(f"slots without a frame, by channel        { {k: len(v) for k, v in missing.items()} }")
    print(
        f"readers                                  {len(read)}, {sum(r[0] for r in read)} windows"
    )
    print(f"frames that changed while being read     {sum(r[2] for r in read)} (stand-ins)")
    print(f"reader errors                            {[e for r in read for e in r[3]]}")


def wrong_frames(settings, archive):
    """Compare published frames with an independent computation from the archive's files.

    Returns the numbers of wrong frames and of compared frames, by instrument. A frame is wrong if a
    pixel differs, if the frame is not flagged as provisional, or if the label of an HMI image is
    visible.
    """
    constants = constants_for(settings)
    table = DegradationTable.default()
    wrong, compared = Counter(), Counter()
    plan = replace(archive.live.plan, down=())
    for (slot, channel), row in rows_of(settings).items():
        if row.status != "ok":
            continue
        published = SDOMLlite(f"{settings.store}/live", [channel])[slot][0][0].numpy()
        instrument = CHANNELS[channel].instrument
        minute = minute_of(row.file)
        # After a day, HMI images have no label, so use the file from the time of publication.
        tree = LiveTree(Clock(row.published, speed=0), archive.live.frames, plan)
        if instrument == "AIA":
            path = live_path(CHANNELS[channel], minute)
            frame = decode_aia(tree.respond(f"/data/aia/synoptic/{path}").body)
            factor = table.factor(slot.date(), CHANNELS[channel].wavelength)
            pixels = process_aia(frame, resolution=settings.resolution, degradation=factor)
            expected = np.empty_like(pixels)
            normalize(pixels, constants.constant(channel), expected)
            good = np.array_equal(published, expected)
        else:
            path = archive_path(CHANNELS[channel], minute)
            image = decode_hmi(tree.respond(f"{HMI_TREE}{path}").body)
            radius = solar_radius(hmi_observed(minute))
            expected = process_hmi(
                image, resolution=settings.resolution, rsun_obs=radius, scale=GEOMETRIC_SCALE
            )
            rows = slice(-(-LABEL[0] * settings.resolution // 1024), None)
            columns = slice(0, LABEL[1] * settings.resolution // 1024)
            label = image[LABEL[0] :, : LABEL[1]].max() > 200
            good = (
                label
                and np.array_equal(published, expected)
                and published[rows, columns].max() < 0.02
            )
        compared[instrument] += 1
        wrong[instrument] += not (good and is_provisional(row.flags))
    return dict(wrong), dict(compared)


def minute_of(name):
    """Return the minute in the name of a file."""
    return datetime.strptime(name.removeprefix("AIA")[:13], "%Y%m%d_%H%M").replace(tzinfo=UTC)


def serve(cache, seconds, roots):
    """Run the archive in a child process of `cpu`, with a clock that the parent sets."""
    clock = Clock()
    clock.now = lambda: datetime.fromtimestamp(seconds.value, UTC)  # type: ignore[method-assign]
    plan = LivePlan(uncompressed=0)
    with Archive(cache=cache, clock=clock, live=plan, absences=False) as archive:
        roots.put((archive.aia_root, archive.hmi_root))
        time.sleep(3600)


def cpu(options):
    """Measure the CPU time of a slot with eight channels at 512 pixels, in a warm process."""
    seconds, roots = multiprocessing.Value("d", START.timestamp()), multiprocessing.Queue()
    process = multiprocessing.Process(
        target=serve, args=(options.cache, seconds, roots), daemon=True
    )
    process.start()
    aia, hmi = roots.get(timeout=60)
    archive = argparse.Namespace(aia_root=aia, hmi_root=hmi)
    with workspace() as folder:
        for attempt in range(2):  # the first pass also renders the frames
            now = START
            seconds.value = now.timestamp()
            overrides = {"channels": DEFAULT_CHANNELS, "resolution": 512, "live_hours": 1}
            settings = settings_for(archive, folder / f"store{attempt}", **overrides)
            freeze(Store(settings.store), constants_for(settings), replace=False)
            tick(settings, now)
            spent, updates, frames = 0.0, 0, 0
            for _ in range(HOUR // STEP):
                now += STEP
                seconds.value = now.timestamp()
                began = time.process_time()
                done = tick(settings, now)
                spent += time.process_time() - began
                updates += done is not None
                frames += done.frames.total() if done else 0
    process.kill()
    print(f"frames                                   {frames} in {updates} updates of one hour")
    print(f"CPU per slot of eight channels           {8 * spent / frames:.2f} s")


def overhead(options):
    """Measure the CPU time of a Dagster run without new frames, which a run per tick would add."""
    clock = Clock()
    with (
        workspace() as folder,
        Archive(
            cache=options.cache, clock=clock, live=LivePlan(uncompressed=0), absences=False
        ) as archive,
    ):
        overrides = {"channels": ("AIA_0171",), "live_hours": 1, "cadence_minutes": 60}
        settings = settings_for(archive, folder / "store", **overrides)
        freeze(Store(settings.store), constants_for(settings), replace=False)
        home = folder / "home"
        home.mkdir()
        environment = os.environ | {
            "DAGSTER_HOME": str(home),
            "SDOML_STORE": settings.store,
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
            "SDOML_CHANNELS": "AIA_0171",
            "SDOML_CADENCE_MINUTES": "60",
            "SDOML_RESOLUTION": "64",
            "SDOML_LIVE_HOURS": "1",
        }
        command = [sys.executable, "-W", "ignore", "-m", "dagster", "job", "execute"]
        command += ["-m", "sdoml_dagster.definitions", "-j", "live_update"]
        used = []
        for _ in range(4):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=environment, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        tick(settings, clock.now())
        began = time.process_time()
        tick(settings, clock.now())
        warm = time.process_time() - began
    print(f"CPU of an idle run, new process          {statistics.median(used[1:]):.2f} s")
    print(f"CPU of an idle check, warm process       {warm:.3f} s")


def follow(arguments):
    """Follow the archive until killed, in a child process of `kills`."""
    store, aia, hmi, start, began, speed = arguments
    archive = argparse.Namespace(aia_root=aia, hmi_root=hmi)
    settings = settings_for(archive, store)
    clock = shared_clock(datetime.fromisoformat(start), float(began), float(speed))
    while True:
        try:
            tick(settings, clock())
        except SdomlError as error:
            print(error, file=sys.stderr)
        time.sleep(0.05)


def shared_clock(start, began, speed):
    """Return a clock that several processes agree on."""
    return lambda: start + timedelta(seconds=(time.monotonic() - began) * speed)


def kills(options):
    """Kill a follower repeatedly, and compare its window with that of an undisturbed follower."""
    speed, began = options.speed, time.monotonic()
    clock = Clock(START, speed=speed)
    clock.now = shared_clock(START, began, speed)  # type: ignore[method-assign]
    silent = nothing_before_start()
    with (
        workspace() as folder,
        Archive(
            cache=options.cache,
            clock=clock,
            live=LivePlan(seed=2, silent=silent),
            absences=False,
        ) as archive,
    ):
        stores = [folder / name for name in ("killed", "undisturbed")]
        for store in stores:
            settings = settings_for(archive, store)
            freeze(Store(settings.store), constants_for(settings), replace=False)

        def launch(store):
            arguments = [str(store), archive.aia_root, archive.hmi_root]
            arguments += [START.isoformat(), str(began), str(speed)]
            command = [sys.executable, "-m", "benchmarks.live", "follow", *arguments]
            return subprocess.Popen(command)

        children = [launch(store) for store in stores]
        choose = random.Random(4)
        for _ in range(options.kills):
            time.sleep(choose.uniform(3, 8))
            children[0].send_signal(signal.SIGKILL)
            children[0].wait()
            children[0] = launch(stores[0])
        time.sleep(5)
        for child in children:
            child.kill()
            child.wait()
        frozen = clock.now()
        clock.now = lambda: frozen  # type: ignore[method-assign]
        windows = []
        for store in stores:
            settings = settings_for(archive, store)
            for number in range(6):
                tick(settings, frozen + number * timedelta(seconds=1))
            windows.append(published(store))
    names = [set(window) for window in windows]
    print(f"kills                                    {options.kills}")
    print(f"simulated time                           {frozen - START}")
    print(f"files in the window                      {len(names[1])}")
    print(f"equal bytes                              {windows[0] == windows[1]}")


def published(store):
    """Return the index of a window and the shards that it names."""
    index = (store / "live/index.parquet").read_bytes()
    shards = {name: (store / "live" / name).read_bytes() for name in Catalog(index).shards}
    return {"index.parquet": index} | shards


def soak(options):
    """Follow the archive for weeks of simulated time: memory and files must not grow."""
    clock = Clock(START, speed=0)
    process = psutil.Process()
    silent = nothing_before_start()
    with (
        workspace() as folder,
        Archive(
            cache=options.cache,
            clock=clock,
            live=LivePlan(absences=True, silent=silent),
        ) as archive,
    ):
        overrides = {"channels": ("AIA_0171",), "cadence_minutes": 60, "live_hours": 24}
        settings = settings_for(archive, folder / "store", **overrides)
        freeze(Store(settings.store), constants_for(settings), replace=False)
        print("day  RSS MiB  files  folders  MiB  state bytes")
        for day in range(options.days):
            for _ in range(24 * 4):
                clock.advance(15 * timedelta(minutes=1))
                tick(settings, clock.now())
            archive.log.requests.clear()
            live = Path(settings.store) / "live"
            files = [path for path in live.rglob("*") if path.is_file()]
            folders = sum(path.is_dir() for path in live.rglob("*"))
            size = sum(path.stat().st_size for path in files) / 2**20
            state = (live / "state.json").stat().st_size
            memory = process.memory_info().rss / 2**20
            print(f"{day + 1:3}  {memory:7.0f}  {len(files):5}  {folders:7}  {size:.1f}  {state}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cache", type=Path, default=default_cache(), help="cache of rendered frames"
    )
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("hours", help="two days with faults and readers")
    part.add_argument("--hours", type=int, default=48)
    part.add_argument("--readers", type=int, default=10)
    part.add_argument("--interval", type=int, default=180, help="seconds between two checks")
    part.set_defaults(run=hours48)
    parts.add_parser("cpu", help="CPU time per slot").set_defaults(run=cpu)
    parts.add_parser("overhead", help="CPU time of a Dagster run").set_defaults(run=overhead)
    part = parts.add_parser("kills", help="kills and restarts")
    part.add_argument("--kills", type=int, default=12)
    part.add_argument("--speed", type=float, default=120.0)
    part.set_defaults(run=kills)
    part = parts.add_parser("soak", help="weeks of simulated time")
    part.add_argument("--days", type=int, default=18)
    part.set_defaults(run=soak)
    part = parts.add_parser("follow")
    part.add_argument("arguments", nargs=6)
    part.set_defaults(run=lambda options: follow(options.arguments))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
