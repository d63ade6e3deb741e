"""Memory and time of `make_release` for a long range.

    python -m benchmarks.release [--days 1200] [--cadence 15]

One day of 64×64 frames is built from the simulated archive and repeated: each further day gets
copies of the index and the frame tables with its own date, and a hard link to the shard. The
measures in the indexes get random values, so that they compress as poorly as real measures. The
members of the repeated shards keep the first day's names. This does not matter, because a release
reads no members except for its contact sheet.

Five releases are made in turn: without the last day, with all days, without the first day (which
changes the number of every shard), with all days again, and once more without any change.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import psutil
import pyarrow as pa

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.formats.index import decode_index, encode_index
from sdoml_core.formats.ledger import FRAME_TABLE, FrameRow, RawRow
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.days import DayRange
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.pipeline.pack import pack_day
from sdoml_dagster.pipeline.process import process_day
from sdoml_dagster.release.build import ReleaseRequest, is_current, publish
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from sdoml_demo.server import Archive

FIRST = date(2011, 1, 1)
Row = TypeVar("Row", FrameRow, RawRow)


def build_first_day(folder: Path, cadence: int, *, keep_raw: bool = False) -> None:
    """Build one day through the pipeline."""
    settings = _settings(folder, cadence, days=1)
    store = Store(str(folder))
    with Archive() as archive:
        for instrument, root in (("AIA", archive.aia_root), ("HMI", archive.hmi_root)):
            with ArchiveClient([root], connections=4) as client:
                fetch_day(
                    FIRST, instrument, settings=settings, store=store, client=client, report=_quiet
                )
            process_day(FIRST, instrument, settings=settings, store=store, report=_quiet)
    freeze(store, fit_store(settings, store).normalization, replace=True)
    pack_day(FIRST, settings=settings, store=store, report=_quiet)
    if not keep_raw:
        shutil.rmtree(folder / "raw")


def repeat_day(folder: Path, days: int) -> None:
    """Add days: dated copies of the first day's index and tables, and links to its shard."""
    store = Store(str(folder))
    index = decode_index(store.read(layout.shard_index(FIRST)))
    tables = {i: FRAME_TABLE.decode(store.read(layout.frame_table(FIRST, i))) for i in INSTRUMENTS}
    for number in range(1, days):
        day = FIRST + timedelta(days=number)
        later = timedelta(days=number)
        members = [f"{day:%Y/%m/%d}{name[10:]}" for name in index.table["member"].to_pylist()]
        table = index.table
        for name in ("slot", "observed"):
            field = table.schema.field(name)
            moved = [time and time + later for time in table.column(name).to_pylist()]
            position = table.schema.get_field_index(name)
            table = table.set_column(position, field, pa.array(moved, field.type))
        table = table.set_column(2, table.schema.field("member"), pa.array(members))
        table = with_random_measures(table, number)
        store.write(
            layout.shard_index(day),
            encode_index(
                table,
                shard=layout.shard_name(day),
                shard_bytes=index.shard_bytes,
                shard_sha256=index.shard_sha256,
                normalization_version=index.normalization_version,
                inputs=f"{index.inputs}-{day}",
            ),
        )
        target = folder / layout.shard(day)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / layout.shard(FIRST), target)
        for instrument, rows in tables.items():
            dated = [move_row(row, later) for row in rows]
            store.write(layout.frame_table(day, instrument), FRAME_TABLE.encode(dated))


def with_random_measures(table: pa.Table, seed: int) -> pa.Table:
    """Return a daily index with random checksums and slightly changed measures."""
    rng = np.random.default_rng(seed)
    for position, field in enumerate(table.schema):
        if field.name == "crc32":
            values = pa.array(rng.integers(0, 1 << 32, len(table), np.uint32))
        elif pa.types.is_floating(field.type) and field.name not in {"constant", "step"}:
            old = table.column(field.name)
            new = old.to_numpy() * (1 + 1e-3 * rng.random(len(table)))
            values = pa.array(new, field.type, mask=old.is_null().to_numpy())
        else:
            continue
        table = table.set_column(position, field, values)
    return table


def release(folder: Path, days: int, cadence: int, first: int, last: int) -> None:
    """Make a release of a range of days and print its costs."""
    settings = _settings(folder, cadence, days=days)
    store = Store(str(folder))
    chosen = DayRange(FIRST + timedelta(days=first), FIRST + timedelta(days=last - 1))
    request = ReleaseRequest(days=chosen)
    before = psutil.Process().memory_info().rss
    used, begin = time.process_time(), time.perf_counter()
    if is_current(request, settings=settings, store=store):
        what = "already current"
    else:
        publish(request, settings=settings, store=store, report=print)
        what = "published"
    peak = _peak_rss()
    print(
        f"days {first + 1} to {last} {what}: {time.perf_counter() - begin:.1f} s, "
        f"{time.process_time() - used:.1f} s CPU, peak {peak:.0f} MiB "
        f"({peak - before / 2**20:.0f} MiB more than before)"
    )


def move_row(row: Row, later: timedelta) -> Row:
    """Return a row with later times."""
    observed = None if row.observed is None else row.observed + later
    return replace(row, slot=row.slot + later, observed=observed)


def _peak_rss() -> float:
    """Return this process's peak memory in MiB; `ru_maxrss` would include the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def _settings(folder: Path, cadence: int, *, days: int) -> Settings:
    return Settings.load(
        store=str(folder),
        start=f"{FIRST}",
        end=f"{FIRST + timedelta(days=days)}",
        cadence_minutes=cadence,
        resolution=64,
        threads=2,
    )


def _quiet(_: str) -> None:
    pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=1200)
    parser.add_argument("--cadence", type=int, default=15)
    parser.add_argument("--store", type=Path, help="folder of the store, which is kept")
    parser.add_argument("--turn", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        release(arguments.store, arguments.days, arguments.cadence, *arguments.turn)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.store or Path(temporary) / "data"
        if not folder.exists():
            build_first_day(folder, arguments.cadence)
            repeat_day(folder, arguments.days)
        all_days = (0, arguments.days)
        for turn in ((0, arguments.days - 1), all_days, (1, arguments.days), all_days, all_days):
            command = [sys.executable, "-m", "benchmarks.release", "--store", str(folder)]
            command += ["--days", str(arguments.days), "--cadence", str(arguments.cadence)]
            subprocess.run([*command, "--turn", *map(str, turn)], check=True)


if __name__ == "__main__":
    main()
