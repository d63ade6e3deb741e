"""Count the complete samples that stand-ins add, for tolerances of 0, 2 and 4 minutes.

``python -m benchmarks.stand_ins --output benchmarks/results/stand_ins.md``

In the simulated archive, frames are missing as often as in the mission. Half of the 1700 Å frames
at full hours are also missing, because the telescope then takes 4500 Å images.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.formats.ledger import RawRow
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.pipeline.fetch import fetch_day
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store.store import Store
from sdoml_demo.files import default_cache
from sdoml_demo.server import Archive

DAY = date(2024, 3, 8)


def fetch(archive: Archive, folder: str, tolerance: int, cadence: int) -> list[RawRow]:
    """Fetch a day and return its ledger."""
    settings = Settings(cadence_minutes=cadence, aia_tolerance_minutes=tolerance)
    rows: list[RawRow] = []
    for instrument in INSTRUMENTS:
        root = archive.aia_root if instrument == "AIA" else archive.hmi_root
        with ArchiveClient([root], read_timeout=120) as client:
            outcome = fetch_day(
                DAY,
                instrument,
                settings=settings,
                store=Store(folder),
                client=client,
                report=lambda _: None,
            )
        rows += outcome.rows
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cadence", type=int, default=15)
    parser.add_argument("--cache", type=Path, default=default_cache())
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    table = []
    complete = {}
    for tolerance in (0, 2, 4):
        with tempfile.TemporaryDirectory() as folder, Archive(cache=options.cache) as archive:
            rows = fetch(archive, folder, tolerance, options.cadence)
        good = defaultdict(set)
        for row in rows:
            if row.status == "ok":
                good[row.slot].add(row.channel)
        slots = {row.slot for row in rows}
        channels = {row.channel for row in rows}
        complete[tolerance] = sum(good[slot] == channels for slot in slots)
        statuses = Counter(row.status for row in rows)
        substitutes = sum(row.status == "ok" and row.reason is not None for row in rows)
        others = ", ".join(f"{n} {s}" for s, n in sorted(statuses.items()) if s != "ok")
        table.append(
            f"| {tolerance} | {statuses['ok']} of {len(rows)} | {substitutes} | {others} "
            f"| {complete[tolerance]} of {len(slots)} |"
        )
    gained = complete[4] - complete[0]
    lines = [
        "# Stand-ins",
        "",
        f"`python -m benchmarks.stand_ins --cadence {options.cadence}`",
        "",
        f"{DAY} in the simulated archive: eight channels, a slot every {options.cadence} minutes.",
        "",
        "| tolerance (min) | good frames | of these, stand-ins | others | complete samples |",
        "|---|---|---|---|---|",
        *table,
        "",
        f"A tolerance of 4 minutes adds **{gained} complete samples** "
        f"({gained / complete[0]:+.0%}).",
        "",
    ]
    print("\n".join(lines))
    if options.output:
        options.output.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
