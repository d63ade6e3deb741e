"""Kernels are compiled once, before they are first used, and the compilation is reported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REAL_AIA = ROOT / "sdoml_demo/data/AIA20180820_1248_0193.fits"
HMI = ROOT / "tests/data/hmi_20180820_090000_M_1k.reconstructed.jpg"

_SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from numba.core import event
from sdoml_core.frames.aia import decode_aia, process_aia
from sdoml_core.frames.hmi import decode_hmi, process_hmi
from sdoml_core.frames.judge_aia import judge_aia
from sdoml_core.kernel_cache import prepare_kernels
from sdoml_core.normalization.sketch import Sketch

prepare_kernels(lambda line: print(line.split()[0]))
aia, hmi = (Path(name).read_bytes() for name in sys.argv[1:])
with event.install_recorder("numba:compile") as recorder:
    frame = decode_aia(aia)
    Sketch.of(process_aia(frame, resolution=512, degradation=1.0))
    judge_aia(frame, max_missing_fraction=0.05)
    frame.image[96:104, 96:104] = float("nan")
    judge_aia(frame, max_missing_fraction=0.05)
    process_aia(replace(frame, missing=1), resolution=512, degradation=1.0)
    process_hmi(decode_hmi(hmi), resolution=512, rsun_obs=960.0, scale=0.85)
print(len(recorder.buffer))
"""


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_kernels_are_compiled_once_and_completely(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SCRIPT, str(REAL_AIA), str(HMI)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    )
    assert first.split() == ["compiling", "0"]
    assert second.split() == ["0"]
