"""The recipes in the docs, each run on a small release."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from sdoml_core.loader import BatchLoader, SDOMLlite
from tests.support.synthetic_shards import write_release

PAGE = Path(__file__).parents[2] / "docs/recipes.md"
BLOCKS = re.findall(
    r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
)
SCRIPTS = dict(BLOCKS)
CHANNELS = ["AIA_0171", "HMI_M"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a release of 24 samples, at the path that the recipes use."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "data/releases").mkdir(parents=True)
    write_release(folder / "data/releases/sdoml-lite", 1, channels=CHANNELS)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> Counter[str]:
    dataset = SDOMLlite(folder / "data/releases/sdoml-lite", CHANNELS)
    return Counter(str(time) for time in dataset.times)


def run_here(name: str, folder: Path, patch: pytest.MonkeyPatch) -> dict[str, Any]:
    patch.chdir(folder)
    names: dict[str, Any] = {}
    exec(compile(SCRIPTS[name], name, "exec"), names)
    return names


# For each script: the line that begins the processing of a batch, and the line to add after it.
LOOPS = {
    "train_ddp.py": (
        "    for images, times in loader:\n",
        "        record(dist.get_rank(), epoch, times)\n",
    ),
    "train_lightning.py": (
        "        images, times = batch\n",
        "        record(self.global_rank, self.current_epoch, times)\n",
    ),
    "train_ray.py": (
        "        for images, times in loader:\n",
        "            record(ray.train.get_context().get_world_rank(), epoch, times)\n",
    ),
}


def run_ranks(
    command: list[str],
    folder: Path,
    name: str,
    environment: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> None:
    """Run a script that also records the times of each batch, one line per batch."""
    loop, added = LOOPS[name]
    assert SCRIPTS[name].count(loop) == 1
    recording = SCRIPTS[name].replace(loop, loop + added)
    for file in folder.glob("seen-*.txt"):
        file.unlink()
    record = (
        "def record(rank, epoch, times):\n"
        f"    with open(f'{folder}/seen-{{rank}}.txt', 'a') as file:\n"
        "        print(epoch, *times, file=file)\n"
    )
    (folder / name).write_text(record + recording)
    process = subprocess.Popen(
        [python, "-W", "ignore", *command],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(PAGE.parents[1]),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=400)
    finally:
        # Kill any processes that the script has left behind.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output[-3000:]


def seen(folder: Path, *, epoch: int) -> Counter[str]:
    """Count the times that the two ranks used in an epoch."""
    records = [(folder / f"seen-{rank}.txt").read_text() for rank in (0, 1)]
    lines = [line.split() for record in records for line in record.splitlines()]
    return Counter(time for number, *times in lines if int(number) == epoch for time in times)


def test_plain_loop_trains_and_can_be_resumed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_here("train_plain.py", folder, monkeypatch)
    assert names["loss"].isfinite()
    again = BatchLoader(names["dataset"], batch_size=4, shuffle=True, seed=7)
    again.load_state_dict(names["checkpoint"]["loader"])
    # Both loaders start the third epoch.
    assert next(iter(again))[1] == next(iter(names["loader"]))[1]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_torchrun_uses_each_sample_once_per_epoch(folder: Path, expected: Counter[str]) -> None:
    run_ranks(
        ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "train_ddp.py"],
        folder,
        "train_ddp.py",
    )
    assert seen(folder, epoch=0) == seen(folder, epoch=1) == expected
    saved = torch.load(folder / "ddp.pt", weights_only=True)
    assert saved["model"].keys() == {"weight", "bias"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_lightning_resumes_two_ranks_in_the_middle_of_an_epoch(
    folder: Path, expected: Counter[str]
) -> None:
    pytest.importorskip("lightning")
    run_ranks(["train_lightning.py"], folder, "train_lightning.py")
    assert seen(folder, epoch=0) == seen(folder, epoch=1) == expected
    files = [folder / f"seen-{rank}.txt" for rank in (0, 1)]
    before = [file.read_text().splitlines() for file in files]
    checkpoint = "checkpoints/epoch=0-step=2.ckpt"
    run_ranks(["train_lightning.py", checkpoint], folder, "train_lightning.py")
    # Both ranks continue with their third and last batch, as if there had been no interruption.
    assert [file.read_text().splitlines() for file in files] == [lines[2:] for lines in before]


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_ray_uses_each_sample_once_per_epoch(folder: Path, expected: Counter[str]) -> None:
    pytest.importorskip("ray")
    # Ray requires short paths for its sockets, and cannot start a Python whose path has spaces.
    with TemporaryDirectory(prefix="ray-") as scratch:
        environment = Path(scratch, "environment")
        environment.symlink_to(sys.prefix)
        run_ranks(
            ["train_ray.py"],
            folder,
            "train_ray.py",
            {
                "RAY_TMPDIR": scratch,
                "RAY_AUTH_MODE": "disabled",
                "RAY_USAGE_STATS_ENABLED": "0",
                # On a busy machine, processes start slowly.
                "RAY_raylet_start_wait_time_s": "240",
                "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "240",
                # Prevent Ray from stopping workers because the disk or the memory is nearly full.
                "RAY_local_fs_capacity_threshold": "1",
                "RAY_memory_monitor_refresh_ms": "0",
            },
            python=f"{environment}/bin/python",
        )
    assert seen(folder, epoch=0) == seen(folder, epoch=1) == expected


def test_accelerate_trains_in_one_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = run_here("train_accelerate.py", folder, monkeypatch)
    assert names["loss"].isfinite()
    assert names["accelerator"].prepare(names["loader"]) is names["loader"]


# torchdata 0.11 causes a warning with torch 2.13.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_stateful_data_loader_resumes_after_a_batch(
    folder: Path, expected: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_here("train_stateful.py", folder, monkeypatch)
    assert len(names["first"]) == 4
    assert Counter(names["first"] + names["rest"]) == expected


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_streams_a_release(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = run_here("read_hugging_face.py", folder, monkeypatch)["row"]
    assert row["__key__"] == "2022/11/01/0000"
    assert {name.lower() for name in row} >= {"aia_0171.npy", "hmi_m.npy"}
