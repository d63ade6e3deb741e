"""The wheel and its ``loader`` extra are sufficient for training in a new virtual environment."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.synthetic_shards import write_release

ROOT = Path(__file__).parents[2]

TRAIN = """
import importlib.util, sys
import numpy as np, torch
from sdoml_core.loader import BatchLoader, SDOMLlite
from sdoml_core.wcs import frame_header

heavy = ("dagster", "numba", "astropy", "PIL", "requests", "pydantic", "pandas", "webdataset")
present = [name for name in heavy if importlib.util.find_spec(name)]
assert not present, present

dataset = SDOMLlite(sys.argv[1], ["AIA_0171", "AIA_0193"])
model = torch.nn.Conv2d(1, 1, 5, padding=2)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for epoch in range(3):
    for images, times in BatchLoader(dataset, batch_size=8, shuffle=True):
        loss = torch.nn.functional.mse_loss(model(images[:, :1]), images[:, 1:])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        losses.append(loss.item())
assert losses[-1] < losses[0]

field, time = SDOMLlite(sys.argv[1], ["HMI_M"], units="gauss")[0]
assert np.isfinite(field.numpy()).any()
facts = SDOMLlite(sys.argv[1], ["AIA_0171"], metadata=True)[0][2]["AIA_0171"]
import datetime
observed = datetime.datetime.fromisoformat(facts["observed"]).replace(tzinfo=datetime.UTC)
header = frame_header("AIA_0171", resolution=32, observed=observed, rsun_obs=facts["rsun_obs"])
assert header["CTYPE1"] == "HPLN-TAN"

try:
    import sdoml_dagster
except ImportError as error:
    assert "pip install 'sdoml-lite[pipeline]'" in str(error)
else:
    raise AssertionError("building needs the extra pipeline")
print("trained", len(losses), "steps")
"""


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.needs("package index")
@pytest.mark.timeout(600)
def test_loader_extra_is_enough_for_training(tmp_path: Path) -> None:
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    run(sys.executable, *pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "light", cwd=tmp_path)
    python = str(tmp_path / "light/bin/python")
    constraints = str(ROOT / "constraints.txt")
    # Compiling torch to bytecode would take longer than this test.
    install = (*pip, "install", "--no-compile")
    run(python, *install, "-c", constraints, f"{wheel}[loader]", cwd=tmp_path)
    release = write_release(tmp_path / "release", 1)
    assert "trained" in run(python, "-c", TRAIN, str(release), cwd=tmp_path)
