"""Exports can be read as their clients read them: with xarray and YAML for Surya, zarr for SDO-FM.

The clients themselves were run manually on such files; see docs/exports.md.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
import zarr

from sdoml_core.errors import DatasetError, NormalizationError
from sdoml_core.exporters.sdoml_zarr import export_zarr, zarr_name
from sdoml_core.exporters.signum_log import SignumLogStatistics, signum_log_statistics
from sdoml_core.exporters.surya import export_surya, surya_name
from sdoml_core.frames.magnetogram import level_to_gauss
from sdoml_core.loader import SDOMLlite
from sdoml_core.normalization.constants import ChannelStatistics
from sdoml_core.normalization.sketch import Sketch, merge
from tests.support.synthetic_shards import CONSTANT, FIRST, SIDE, frame, write_day, write_release

CHANNELS = ["AIA_0193", "HMI_M"]
LAST_HOUR = ("2022-11-01T05:00", "2022-11-01T06:00")
KSQUARED = (1024 / SIDE) ** 2
STATISTICS = SignumLogStatistics(mean=0.5, std=0.25, minimum=0.0, maximum=9.0)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"), 1, channels=["AIA_0171", *CHANNELS])


def expected(time: datetime, channel: str) -> np.ndarray:
    """Return the frame in physical units, with row 0 in the south."""
    pixels = frame(time.replace(tzinfo=UTC), channel)
    if channel == "HMI_M":
        return level_to_gauss(pixels)[::-1]
    return pixels[::-1] ** 2 * np.float32(CONSTANT / KSQUARED)


def test_surya_export_has_an_index_netcdf_files_and_scalers(release: Path, tmp_path: Path) -> None:
    dataset = SDOMLlite(release, CHANNELS, *LAST_HOUR)
    days: list[str] = []
    statistics = dict.fromkeys(CHANNELS, STATISTICS)
    assert export_surya(dataset, tmp_path, statistics, progress=days.append) == 4
    assert days == ["2022-11-01"]
    index = pd.read_csv(tmp_path / "index.csv")
    index = index[index["present"] == 1]
    times = pd.to_datetime(index["timestep"])
    assert list(times) == [pd.Timestamp(time) for time in dataset.dates]
    names = [surya_name(name) for name in CHANNELS]
    assert names == ["aia193", "hmi_m"]
    for time, path in zip(dataset.dates, index["path"], strict=True):
        with xr.open_dataset(tmp_path / path, engine="h5netcdf", chunks=None, cache=False) as file:
            data = file[names].to_array().load().to_numpy()
        assert data.dtype == np.float32
        for pixels, channel in zip(data, CHANNELS, strict=True):
            assert pixels == pytest.approx(expected(time, channel), rel=1e-5, abs=0.02)
    scaler = yaml.safe_load((tmp_path / "scalers.yaml").read_text())["aia193"]
    assert scaler["class"] == "StandardScaler"
    assert [float(scaler[key]) for key in ("mean", "std", "min", "max", "sl_scale_factor")] == [
        0.5,
        0.25,
        0.0,
        9.0,
        1.0,
    ]


def test_surya_export_needs_statistics_for_every_channel(release: Path, tmp_path: Path) -> None:
    dataset = SDOMLlite(release, CHANNELS, *LAST_HOUR)
    with pytest.raises(DatasetError, match="are missing: HMI_M"):
        export_surya(dataset, tmp_path, {"AIA_0193": STATISTICS})


def test_sdo_fm_export_has_one_array_per_year_and_channel(release: Path, tmp_path: Path) -> None:
    for channel in CHANNELS:
        dataset = SDOMLlite(release, [channel], *LAST_HOUR)
        assert export_zarr(dataset, tmp_path, hmi_scale=0.85) == 4
    aia, hmi = (zarr.open_group(tmp_path / name, mode="r") for name in ("aia.zarr", "hmi.zarr"))
    assert list(aia.group_keys()) == ["2022"]
    for store, channel in ((aia, "AIA_0193"), (hmi, "HMI_M")):
        array = store["2022"][zarr_name(channel)]
        assert array.metadata.zarr_format == 2
        assert (array.shape, array.chunks) == ((4, SIDE, SIDE), (1, SIDE, SIDE))
        for pixels, time in zip(array[:], dataset.dates, strict=True):
            assert pixels == pytest.approx(expected(time, channel), rel=1e-5, abs=0.02)
        assert {len(values) for values in array.attrs.values()} == {4}
    first = {key: values[0] for key, values in aia["2022"]["193A"].attrs.items()}
    assert first["T_OBS"] == "2022-11-01T04:59:52.750Z"
    assert (first["EXPTIME"], first["WAVELNTH"], first["RSUN_OBS"]) == (
        pytest.approx(2.9),
        193,
        962.5,
    )
    first = {key: values[0] for key, values in hmi["2022"]["M"].attrs.items()}
    assert first["T_OBS"] == "2022.11.01_05:00:29_TAI"  # 37 s ahead of UTC
    assert first["BUNIT"] == "G"


def test_second_export_replaces_the_arrays(release: Path, tmp_path: Path) -> None:
    export_zarr(SDOMLlite(release, ["AIA_0193"]), tmp_path)
    export_zarr(SDOMLlite(release, ["AIA_0193"], *LAST_HOUR), tmp_path)
    export_zarr(SDOMLlite(release, ["AIA_0171"], *LAST_HOUR), tmp_path)
    group = zarr.open_group(tmp_path / "aia.zarr", mode="r")["2022"]
    assert sorted(group.array_keys()) == ["171A", "193A"]
    assert group["193A"].shape[0] == 4


def test_invalid_exports_are_rejected(release: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="only one channel, not AIA_0193, HMI_M"):
        export_zarr(SDOMLlite(release, CHANNELS), tmp_path / "zarr")
    write_day(tmp_path / "bare", FIRST, index=False, hours=1)
    with pytest.raises(NormalizationError, match="the shards have no index"):
        export_zarr(SDOMLlite(tmp_path / "bare", ["AIA_0193"]), tmp_path / "zarr")


@pytest.mark.parametrize("transform", ["sqrt", "linear", "field"])
def test_signum_log_statistics_match_the_pixels(transform: str) -> None:
    """Brightness is log-normal and partly above the constant, and fields are near 0 G.

    A tenth of the pixels are zero.
    """
    random = np.random.default_rng(7)
    if transform == "sqrt":
        raw, constant = random.lognormal(5, 2, (4, 64, 64)), 3000.0
    else:
        raw = 0.5 + random.laplace(0, 0.03, (4, 64, 64)).clip(-0.45, 0.45)
        constant = 1.0 if transform == "linear" else 300.0
    raw[random.random(raw.shape) < 0.1] = 0
    frames = raw.astype(np.float32)
    if transform == "sqrt":
        physical = np.minimum(frames, constant) / (1024 / 64) ** 2
    elif transform == "linear":
        physical = np.nan_to_num(level_to_gauss(frames))
    else:
        physical = np.where(frames == 0, 0, (frames - 0.5) * 600)
    exact = np.sign(physical) * np.log1p(np.abs(physical))
    found = signum_log_statistics(
        merge(Sketch.of(one) for one in frames),
        ChannelStatistics(transform=transform, constant=constant, pixels=frames.size),
        resolution=64,
    )
    assert found.mean == pytest.approx(exact.mean(), abs=0.005)
    assert found.std == pytest.approx(exact.std(), rel=0.002)
    assert found.maximum == pytest.approx(physical.max(), rel=1e-6)


def test_channel_without_pixels_has_no_statistics() -> None:
    with pytest.raises(NormalizationError, match="need a channel that has pixels"):
        signum_log_statistics(Sketch(), ChannelStatistics("sqrt", 1.0, 0), resolution=64)
