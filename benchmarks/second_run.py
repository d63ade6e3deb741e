"""Measure the CPU time of a second materialization of finished days, relative to the first.

    python -m benchmarks.second_run [--days 30] [--cadence 15]

Builds a range with Dagster's commands and with `sdoml build`, twice each, from the same simulated
archive. All other settings have their default values. The archive renders the frames; its CPU time
is not counted.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from datetime import date, timedelta
from pathlib import Path

from sdoml_demo.server import Archive

FIRST = date(2024, 3, 8)
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def dagster_commands(days: int) -> list[list[str]]:
    """Return the commands that materialize all daily assets of the range."""
    last = FIRST + timedelta(days=days - 1)
    materialize = [str(BIN / "dagster"), "asset", "materialize", "-m", "sdoml_dagster.definitions"]
    return [[*materialize, "--select", "*", "--partition-range", f"{FIRST}...{last}"]]


def sdoml_commands(days: int) -> list[list[str]]:
    """Return the only command, `sdoml build`."""
    last = FIRST + timedelta(days=days)
    return [[str(BIN / "sdoml"), "build", "--start", str(FIRST), "--end", str(last)]]


def cpu_of(commands: list[list[str]], environment: dict[str, str], folder: Path) -> float:
    """Run commands, and return the CPU seconds of all their processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--cadence", type=int, default=15, help="minutes between slots")
    options = parser.parse_args()
    print(f"{options.days} days, a slot every {options.cadence} minutes")
    print(f"{'':24}{'first, CPU s':>14}{'second, CPU s':>15}{'share':>8}")
    with Archive(absences=False) as archive:
        for way, commands in (("dagster", dagster_commands), ("sdoml build", sdoml_commands)):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                home = folder / "home"
                home.mkdir()
                shutil.copy(ROOT / "sdoml_dagster" / "instance" / "dagster.yaml", home)
                environment = os.environ | {
                    "DAGSTER_HOME": str(home),
                    "SDOML_STORE": str(folder / "data"),
                    "SDOML_AIA_ROOTS": archive.aia_root,
                    "SDOML_HMI_ROOTS": archive.hmi_root,
                    "SDOML_START": str(FIRST),
                    "SDOML_END": str(FIRST + timedelta(days=options.days)),
                    "SDOML_CADENCE_MINUTES": str(options.cadence),
                    "SDOML_DAYS_PER_RUN": "0",
                }
                first, second = (
                    cpu_of(commands(options.days), environment, folder) for _ in range(2)
                )
                print(f"{way:24}{first:14.1f}{second:15.1f}{second / first:8.1%}", flush=True)


if __name__ == "__main__":
    main()
