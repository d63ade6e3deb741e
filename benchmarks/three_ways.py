"""Build the same small dataset with the original's scripts, Dagster's commands and `sdoml build`.

    python -m benchmarks.three_ways PATH_OF_THE_ORIGINAL [--rounds 3]

The dataset has hourly 256×256 frames of AIA 171 Å, AIA 193 Å and HMI for three days. Its constants
are fitted to the first two days; the original scripts can only fit theirs to all three days. The
scripts' option `--wavelengths` does not work, because it compares text with numbers, so a copy of
the scripts is edited. The three ways take turns. Each way downloads from the same simulated
archive, whose frames are rendered before the first round, and uses two processes or threads.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from sdoml_demo.server import Archive

FIRST, LAST, END = "2024-03-08", "2024-03-10", "2024-03-11"
FIT_LAST = "2024-03-09"
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FIT = f"""ops:
  normalization_stats:
    config: {{first_day: "{FIRST}", last_day: "{FIT_LAST}"}}
"""


@dataclass(frozen=True)
class Cost:
    """Cost of one way: number of commands, wall time, CPU time and disk space."""

    commands: int
    wall: float
    cpu: float
    mib: float


def original(scripts: Path, folder: Path, archive: Archive) -> list[list[str]]:
    """Return the commands of the original's README, with this dataset's arguments."""
    scripts = shutil.copytree(scripts, folder / "scripts", ignore=shutil.ignore_patterns(".git"))
    for name in ("get_aia.py", "process_aia.py"):
        text = (scripts / name).read_text()
        (scripts / name).write_text(
            re.sub(r"(?<!# )(parser.*--wavelengths.*default=)\[[\d,]+\]", r"\1[171,193]", text)
        )

    def script(name: str, *arguments: str) -> list[str]:
        return [sys.executable, str(scripts / name), *arguments]

    raw, unpacked, packed = (str(folder / name) for name in ("raw", "dataset", "sdoml-lite"))
    days = ["--date_start", f"{FIRST}T00:00:00", "--date_end", f"{END}T00:00:00", "--cadence", "60"]
    two = ["--max_workers", "2"]
    small = ["--resolution", "256", "--degradation_dir", str(scripts / "degradation" / "v9")]
    aia = ["--remote_root", f"{archive.aia_root}/", "--target_dir", raw]
    hmi = ["--remote_root", f"{archive.hmi_root}/", "--target_dir", raw]
    process = ["--source_dir", raw, "--target_dir", unpacked, *small, *two]
    return [
        script("get_aia.py", *aia, *days, *two),
        script("get_hmi.py", *hmi, *days, *two),
        script("process_aia.py", *process),
        script("process_hmi.py", *process),
        script("make_dataset.py", "--source_dir", unpacked, "--target_dir", packed),
    ]


def dagster(_scripts: Path, folder: Path, _archive: Archive) -> list[list[str]]:
    """Return the commands of `docs/build.md`, and write the two files that they need."""
    home = folder / "home"
    home.mkdir()
    shutil.copy(ROOT / "sdoml_dagster" / "instance" / "dagster.yaml", home)
    (folder / "fit.yaml").write_text(FIT)
    module = ["-m", "sdoml_dagster.definitions"]
    command = [str(BIN / "dagster")]
    materialize = [*command, "asset", "materialize", *module]
    days = ["--partition-range", f"{FIRST}...{LAST}"]
    return [
        [*materialize, "--select", "raw_aia,raw_hmi,processed_aia,processed_hmi", *days],
        [*command, "job", "execute", *module, "-j", "fit_normalization", "-c", "fit.yaml"],
        [*materialize, "--select", "shards", *days],
        [*command, "job", "execute", *module, "-j", "make_release"],
    ]


def sdoml(_scripts: Path, folder: Path, _archive: Archive) -> list[list[str]]:
    """Return the only command, `sdoml build`."""
    options = {
        "--start": FIRST,
        "--end": END,
        "--channels": "AIA_0171,AIA_0193,HMI_M",
        "--resolution": "256",
        "--cadence": "60",
        "--fit": f"{FIRST}..{FIT_LAST}",
        "--name": "my-sun",
        "--store": str(folder / "data"),
    }
    return [[str(BIN / "sdoml"), "build", *(word for pair in options.items() for word in pair)]]


WAYS: dict[str, Callable[[Path, Path, Archive], list[list[str]]]] = {
    "the original's scripts": original,
    "Dagster's commands": dagster,
    "sdoml build": sdoml,
}


def take_turn(way: str, scripts: Path, archive: Archive) -> Cost:
    """Run all commands of one way in an empty folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands = WAYS[way](scripts, folder, archive)
        environment = os.environ | {
            "SDOML_AIA_ROOTS": archive.aia_root,
            "SDOML_HMI_ROOTS": archive.hmi_root,
        }
        if way == "Dagster's commands":
            environment |= {
                "DAGSTER_HOME": str(folder / "home"),
                "SDOML_STORE": str(folder / "data"),
                "SDOML_START": FIRST,
                "SDOML_END": END,
                "SDOML_CHANNELS": "AIA_0171,AIA_0193,HMI_M",
                "SDOML_RESOLUTION": "256",
                "SDOML_CADENCE_MINUTES": "60",
                "SDOML_NAME": "sdoml-lite",
                "SDOML_DAYS_PER_RUN": "0",
            }
        begin, used = time.perf_counter(), _children()
        for command in commands:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
        wall, cpu = time.perf_counter() - begin, _children() - used
        packed = sorted(folder.rglob("*.tar"))
        if not packed:
            raise SystemExit(f"{way} wrote no shard")
        files = (
            path for path in folder.rglob("*") if path.is_file() and "scripts" not in path.parts
        )
        inodes = {path.stat().st_ino: path.stat().st_size for path in files}  # links count once
        return Cost(len(commands), wall, cpu, sum(inodes.values()) / 2**20)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("original", type=Path, help="folder that contains the original scripts")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    scripts = arguments.original.resolve()
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    with Archive(absences=False) as archive:
        take_turn("sdoml build", scripts, archive)  # renders the frames, and compiles the kernels
        for _ in range(arguments.rounds):
            for way in WAYS:
                costs[way].append(take_turn(way, scripts, archive))
    print(f"{'':24}{'commands':>9}{'wall s':>8}{'CPU s':>8}{'disk MiB':>10}")
    for way, turns in costs.items():
        wall, cpu = median(turn.wall for turn in turns), median(turn.cpu for turn in turns)
        print(f"{way:24}{turns[0].commands:9}{wall:8.1f}{cpu:8.1f}{turns[0].mib:10.0f}")


if __name__ == "__main__":
    main()
