"""The tour that ``make demo`` runs: build two days of shards from the simulated archive.

It starts a simulated archive, runs the commands that a user would type, and shows the results.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

from sdoml_core.channels import INSTRUMENTS, parse_channels
from sdoml_core.formats.ledger import STATUSES
from sdoml_dagster.instance.home import prepare_instance
from sdoml_dagster.pipeline.contact_sheets import processed_contact_sheet
from sdoml_dagster.previews import png
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store
from sdoml_demo.files import default_cache
from sdoml_demo.server import Archive

NEXT = """
Next
  {release}/README.md describes the release.
  In Python, after `.venv/bin/pip install -c constraints.txt -e '.[loader]'`:
    from sdoml_core.loader import SDOMLlite
    dataset = SDOMLlite("{shards}", channels={channels})
    image, time = dataset[0]
  `make ui` opens Dagster's web UI on an empty dataset; docs/get-started.md continues from here."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tour. Returns the exit status of the first command that fails."""
    parser = argparse.ArgumentParser(prog="python -m sdoml_demo.tour", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=Path(".demo"), help="folder for all output (%(default)s)"
    )
    parser.add_argument(
        "--start", type=date.fromisoformat, default=date(2024, 3, 8), help="first day (%(default)s)"
    )
    parser.add_argument("--days", type=int, default=2, help="number of days (%(default)s)")
    options = parser.parse_args(arguments)
    if options.days < 1:
        parser.error("--days must be 1 or more")
    folder: Path = options.folder.resolve()
    days = [options.start + timedelta(days=n) for n in range(options.days)]
    started = time.monotonic()
    with Archive(cache=default_cache()) as archive:
        environment = {
            "SDOML_STORE": str(folder / "store"),
            "SDOML_START": str(days[0]),
            "SDOML_END": str(days[-1] + timedelta(days=1)),
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
            # Allow more time, because the archive renders frames on request.
            "SDOML_READ_TIMEOUT": os.environ.get("SDOML_READ_TIMEOUT", "120"),
            "DAGSTER_HOME": str(prepare_instance(folder / "dagster")),
            # Half of the default slots, so that the tour takes a minute or two.
            "SDOML_CADENCE_MINUTES": os.environ.get("SDOML_CADENCE_MINUTES", "30"),
        }
        print("A simulated archive is running on this machine until this command ends. Settings:")
        for name, value in environment.items():
            print(f"export {name}={shlex.quote(value)}")
        os.environ.update(environment)
        for day in days:
            status = _materialize(day)
            if status:
                return status
    print(f"\nBuilt {len(days)} days in {time.monotonic() - started:.0f} s")
    _show(Store(environment["SDOML_STORE"]), days, folder)
    return 0


def _materialize(day: date) -> int:
    command = ["dagster", "asset", "materialize", "-m", "sdoml_dagster.definitions"]
    command += ["--select", "*", "--partition", str(day)]
    print(f"\n$ {shlex.join(command)}", flush=True)
    return subprocess.run([sys.executable, "-W", "ignore", "-m", *command], check=False).returncode  # noqa: S603 the line above


def _show(store: Store, days: Sequence[date], folder: Path) -> None:
    settings = Settings.load()
    channels = parse_channels(settings.channels)
    print("\nShards")
    for day in days:
        path = store.locate(layout.shard(day))
        print(f"  {path}  {Path(path).stat().st_size / 2**20:.0f} MiB")
    print("\nCoverage (frames in the raw ledgers)")
    statuses: dict[str, Counter[str]] = {channel.name: Counter() for channel in channels}
    reasons: Counter[tuple[str, str]] = Counter()
    for day in days:
        for instrument in INSTRUMENTS:
            for row in StoredDay(store, day).ledger(instrument) or []:
                statuses[row.channel][row.status] += 1
                if row.status == "ok" and row.reason:
                    statuses[row.channel]["stand-ins"] += 1
                if row.status != "ok":
                    reasons[row.status, (row.reason or "").split("; ")[0][6:]] += 1
    columns = ("ok", "stand-ins", *STATUSES[1:])
    print("  channel   " + "".join(f"{column:>10}" for column in columns))
    for name, counts in statuses.items():
        print(f"  {name:<10}" + "".join(f"{counts[column]:>10}" for column in columns))
    for (status, reason), count in reasons.most_common():
        print(f"  {count:>4} × {status}: {reason}")
    # At least one day has a contact sheet, because a release without frames would have failed.
    sheets = (
        processed_contact_sheet(StoredDay(store, day), channels, settings=settings, tile=384)
        for day in days
    )
    picture = folder / "sdoml-lite.png"
    picture.write_bytes(png(next(filter(None, sheets))))
    print(f"\nThe Sun, rendered from real frames (a simulation)\n  {picture}")
    names = [channel.name for channel in channels[:3]]
    print(NEXT.format(release=store.locate(layout.release_folder("sdoml-lite")),
                      shards=store.locate("shards"), channels=names))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
