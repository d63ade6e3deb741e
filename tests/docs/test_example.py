"""The worked example in the docs, with a simulated release and a simulated flux series.

Both have the same formats as the real data. The images brighten with the flux, so a model can learn
to predict it.
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

from tests.support.scripted_server import Handler, serving
from tests.support.synthetic_shards import FIRST, frame, write_release

PAGE = Path(__file__).parents[2] / "docs/example-xray-flux.md"
FETCHED, SCRIPT = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
PUBLISHED = "https://services.swpc.noaa.gov/json/goes/primary/xrays-7-day.json"
DAYS = 4
START = datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC)


def simulated_flux() -> NDArray[np.float64]:
    """Return one value per minute in W m⁻²: a background plus flares that decay in an hour."""
    random = np.random.default_rng(5)
    minutes = np.arange(DAYS * 1440)
    flux = np.full(len(minutes), 5e-7)
    for peak in random.integers(0, len(minutes), 30):
        age = minutes - peak
        flux += np.where(age >= 0, 10 ** random.uniform(-6, -4.3) * np.exp(-age / 60), 0)
    return flux


def iso(minute: int) -> str:
    return f"{START + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ}"


def published(flux: NDArray[np.float64]) -> bytes:
    """Return the flux as NOAA publishes it, including a misspelled key."""
    records = [
        {
            "time_tag": iso(minute),
            "satellite": 18,
            "flux": value,
            "observed_flux": 1.01 * value,
            "electron_correction": 0.01 * value,
            "electron_contaminaton": False,
            "energy": band,
        }
        for minute, of_long_band in enumerate(flux.tolist())
        for band, value in (("0.05-0.4nm", of_long_band / 20), ("0.1-0.8nm", of_long_band))
    ]
    return json.dumps(records).encode()


def fetch(script: str, body: bytes) -> list[str]:
    """Run the script that fetches the flux from a local server; return the request paths."""
    with serving(lambda handler: Handler.answer(handler, body=body)) as server:
        host = server.root.removesuffix("/tree")
        exec(compile(script.replace("https://services.swpc.noaa.gov", host), str(PAGE), "exec"), {})
        return [path for _, path in server.asked]


def bright_with(
    flux: NDArray[np.float64], slot: datetime, channel: str, side: int
) -> NDArray[np.float32]:
    """Return a disk whose center brightens with the flux in AIA channels."""
    pixels = 0.4 * frame(slot, channel, side)
    if channel.startswith("AIA"):
        minute = (slot - START) // timedelta(minutes=1)
        pixels[12:18, 12:18] += np.float32((np.log10(flux[minute]) + 6.5) / 5)
    return pixels.clip(0, 1)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The variables of the script after it has run."""
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
    names: dict[str, Any] = {"folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        mpl.use("agg")
        names["requests"] = fetch(FETCHED, published(flux))
        exec(compile(SCRIPT, str(PAGE), "exec"), names)
    return names


def test_fetched_file_has_the_documented_format(outcome: dict[str, Any]) -> None:
    """The script requests NOAA's URL and writes the columns that the page shows."""
    assert PUBLISHED in FETCHED
    assert outcome["requests"] == [PUBLISHED.removeprefix("https://services.swpc.noaa.gov")]
    shown = re.search(r"^```\n(time_tag.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    written = (outcome["folder"] / "goes.csv").read_text().splitlines()
    assert written[0].replace('"', "") == shown[1].splitlines()[0]
    assert len(written) == 1 + 2 * 1440 * DAYS
    form = re.compile(r'"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"?,18,[\d.e-]+,"?0\.\d+-0\.\dnm"?')
    assert all(form.fullmatch(line) for line in (*written[1:3], *shown[1].splitlines()[1:]))


def test_script_has_fewer_than_40_lines_and_no_private_names() -> None:
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
        assert within.sum() == 41  # 48 slots, minus three without a past and four without a future
    assert len(validation) == 82
