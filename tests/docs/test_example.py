"""The worked example of the docs, on a simulated release and a simulated series.

Both have the formats of the real ones. Brightness follows the flux, so there is something to learn.
"""

import json
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.synthetic_shards import FIRST, frame, write_release

PAGE = Path(__file__).parents[2] / "docs/example-xray-flux.md"
FETCHED, SCRIPT = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
DAYS = 4
START = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)


def simulated_flux() -> NDArray[np.float64]:
    """Return a value per minute in W m⁻²: a background with flares that decay in an hour."""
    random = np.random.default_rng(5)
    minutes = np.arange(DAYS * 1440)
    flux = np.full(len(minutes), 5e-7)
    for peak in random.integers(0, len(minutes), 30):
        age = minutes - peak
        flux += np.where(age >= 0, 10 ** random.uniform(-6, -4.3) * np.exp(-age / 60), 0)
    return flux


def iso(minute: int) -> str:
    return f"{START + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ}"


def bright_with(
    flux: NDArray[np.float64], slot: datetime, channel: str, side: int
) -> NDArray[np.float32]:
    """Return a disk whose middle is brighter in AIA if the flux is larger."""
    pixels = 0.4 * frame(slot, channel, side)
    if channel.startswith("AIA"):
        minute = (slot - START) // timedelta(minutes=1)
        pixels[12:18, 12:18] += np.float32((np.log10(flux[minute]) + 6.5) / 5)
    return pixels.clip(0, 1)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The namespace of the script after its run."""
    folder = tmp_path_factory.mktemp("example")
    flux = simulated_flux()
    (folder / "data/releases").mkdir(parents=True)
    write_release(
        folder / "data/releases/sdoml-lite",
        DAYS,
        channels=["AIA_0171", "AIA_0193", "HMI_M"],
        hours=24,
        frame_of=partial(bright_with, flux),
    )
    records = [
        {"time_tag": iso(minute), "satellite": 18, "flux": value, "energy": band}
        for minute, value in enumerate(flux.tolist())
        for band, value in (("0.05-0.4nm", value / 20), ("0.1-0.8nm", value))
    ]
    (folder / "goes.json").write_text(json.dumps(records))
    names: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mpl.use("agg")
        for script in (FETCHED, SCRIPT):
            exec(compile(script, str(PAGE), "exec"), names)
    return names


def test_script_has_under_40_lines_and_no_private_names() -> None:
    lines = [line for line in SCRIPT.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) < 40
    assert not re.search(r"\b_\w|\._", SCRIPT)


def test_held_out_events_are_predicted_in_physical_units(outcome: dict[str, Any]) -> None:
    flux = simulated_flux()
    minutes = (outcome["validation"].times - np.datetime64(FIRST)) // np.timedelta64(1, "m")
    maxima = [flux[minute + 1 : minute + 61].max() for minute in minutes]
    assert outcome["observed"] == pytest.approx(maxima, rel=1e-5)
    train = np.log10([outcome["flux"].inverse(0.0)])
    predicted, observed = np.log10(outcome["predicted"]), np.log10(outcome["observed"])
    assert np.square(predicted - observed).mean() < 0.5 * np.square(train - observed).mean()
    assert (outcome["folder"] / "forecast.png").stat().st_size > 5000


def test_training_excludes_the_held_out_events(outcome: dict[str, Any]) -> None:
    training, validation = outcome["training"], outcome["validation"]
    hour, past = np.timedelta64(1, "h"), np.timedelta64(45, "m")
    for start, end in np.array(outcome["EVENTS"], "datetime64[s]"):
        apart = (training.times + hour < start) | (training.times - past >= end)
        assert apart.all()
        within = (validation.times - past >= start) & (validation.times + hour < end)
        assert within.sum() == 41  # of 48 slots, three lack a past and four a future
    assert len(validation) == 82
