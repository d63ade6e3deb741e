"""Independent processes that share only a store produce the same bytes as one process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdoml_demo.server import Archive
from tests.cluster.deployment import ROOT, differences, files_of
from tests.support.commands import install_scripts
from tests.support.runs import SMALL

DAYS = [f"2024-03-0{day}" for day in range(1, 6)]
INGEST = "raw_aia,raw_hmi,processed_aia,processed_hmi"

pytestmark = pytest.mark.timeout(480)


class Machine:
    """A machine that does not share a Dagster instance with others."""

    def __init__(self, store: Path, programs: Path, variables: dict[str, str]) -> None:
        self.store = store
        self._programs = programs
        self._variables = variables | {"SDOML_STORE": str(store), "SDOML_DAYS_PER_RUN": "0"}

    def start(self, *command: str | Path, **more: str) -> "subprocess.Popen[str]":
        """Start a process with the environment of a batch job."""
        kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH") if name in os.environ}
        path = f"{self._programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.Popen(
            list(map(str, command)),
            env=kept | self._variables | more | {"PATH": path},
            cwd=self.store.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def materialize(self, assets: str, first: str = "", last: str = "") -> "subprocess.Popen[str]":
        """Start ``dagster asset materialize`` for a range of days."""
        days = ["--partition-range", f"{first}...{last}"] if first else []
        module = ("-m", "sdoml_dagster.definitions")
        program = self._programs / "dagster"
        return self.start(program, "asset", "materialize", *module, "--select", assets, *days)

    def slice(self, task: int, tasks: int, assets: str) -> "subprocess.Popen[str]":
        """Start one task of the Slurm array, with the variables that Slurm would set."""
        return self.start(
            "bash", ROOT / "deploy/slurm/days.sbatch", DAYS[0], DAYS[-1], assets,
            SLURM_ARRAY_TASK_ID=str(task + 1),
            SLURM_ARRAY_TASK_MIN="1",
            SLURM_ARRAY_TASK_MAX=str(tasks),
            SLURM_CPUS_PER_TASK="2",
        )  # fmt: skip


def finish(*processes: "subprocess.Popen[str]") -> list[str]:
    """Wait for processes to end, check that they succeeded, and return their output."""
    said = [process.communicate(timeout=240)[0] for process in processes]
    for process, output in zip(processes, said, strict=True):
        assert process.returncode == 0, output[-3000:]
    return said


@pytest.fixture(scope="module")
def machine(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Machine]:
    folder = tmp_path_factory.mktemp("stores")
    roots = {"SDOML_AIA_ROOTS": archive.aia_root, "SDOML_HMI_ROOTS": archive.hmi_root}
    programs = folder / "bin"
    install_scripts(programs, "dagster")
    return lambda name: Machine(
        folder / name,
        programs,
        {**SMALL, **roots, "SDOML_END": "2024-03-06", "SDOML_CADENCE_MINUTES": "720"},
    )


@pytest.fixture(scope="module")
def alone(machine: Callable[[str], Machine]) -> dict[str, bytes]:
    """The files of a store that a single process has built."""
    one = machine("alone")
    finish(one.materialize(INGEST, DAYS[0], DAYS[-1]))
    finish(one.materialize("normalization_stats"))
    finish(one.materialize("shards", DAYS[0], DAYS[-1]))
    return files_of(one.store)


def test_slurm_array_builds_every_day_without_a_database(
    machine: Callable[[str], Machine], alone: dict[str, bytes]
) -> None:
    array = machine("array")
    said = finish(*(array.slice(task, 3, INGEST) for task in range(3)))
    slices = [text.splitlines()[0].split(": ")[1] for text in said]
    assert slices == [
        "2024-03-01 to 2024-03-01",
        "2024-03-02 to 2024-03-03",
        "2024-03-04 to 2024-03-05",
    ]
    finish(array.materialize("normalization_stats"))
    finish(*(array.slice(task, 2, "shards") for task in range(2)))
    assert differences(files_of(array.store), alone) == []


def test_overlapping_ranges_can_run_at_the_same_time(
    machine: Callable[[str], Machine], alone: dict[str, bytes]
) -> None:
    shared = machine("shared")
    finish(
        shared.materialize(INGEST, DAYS[0], DAYS[3]),
        shared.materialize(INGEST, DAYS[1], DAYS[4]),
        shared.materialize(INGEST, DAYS[1], DAYS[2]),
    )
    finish(shared.materialize("normalization_stats"))
    finish(
        shared.materialize("shards", DAYS[0], DAYS[3]),
        shared.materialize("shards", DAYS[2], DAYS[4]),
    )
    assert differences(files_of(shared.store), alone) == []


def test_separate_stores_can_be_merged_by_copying(
    machine: Callable[[str], Machine], alone: dict[str, bytes]
) -> None:
    east, west, merged = machine("east"), machine("west"), machine("merged")
    finish(
        east.materialize(INGEST, DAYS[0], DAYS[1]),
        west.materialize(INGEST, DAYS[2], DAYS[4]),
    )
    for part in (east, west):
        shutil.copytree(part.store, merged.store, dirs_exist_ok=True)
    finish(merged.materialize("normalization_stats"))
    finish(merged.materialize("shards", DAYS[0], DAYS[-1]))
    assert differences(files_of(merged.store), alone) == []
