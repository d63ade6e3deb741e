"""`sdoml build`, run in a separate process as a user would, with the simulated archive."""

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import psutil
import pytest
from click.testing import CliRunner

from sdoml_core.loader import SDOMLlite
from sdoml_dagster.cli.main import commands
from sdoml_demo.server import Archive
from tests.support.code_servers import MODULE_OPTIONS
from tests.support.commands import run_module, start_module
from tests.support.deployment import Deployment

SMALL = ["--channels", "AIA_0171,HMI_M", "--resolution", "64", "--cadence", "360"]
DAYS = ["--start", "2024-03-08", "--end", "2024-03-11"]


def sdoml(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_module("sdoml_dagster.cli", *arguments)


def build(*arguments: str) -> subprocess.CompletedProcess[str]:
    return sdoml("build", *SMALL, *DAYS, *arguments)


def processes(home: Path) -> set[int]:
    """Return the IDs of the processes that were started for an instance."""
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("DAGSTER_HOME") == str(home):
                found.add(process.pid)
    return found


@pytest.fixture
def roots(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove all settings except the archive from the environment."""
    for name in environment:
        if name not in {"SDOML_AIA_ROOTS", "SDOML_HMI_ROOTS"}:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDOML_RETRY_DELAY", "0")
    monkeypatch.setenv("SDOML_ATTEMPTS", "1")


def test_plan_sends_no_requests_and_writes_nothing(
    roots: None, archive: Archive, tmp_path: Path
) -> None:
    asked = len(archive.log.requests)
    done = build("--plan", "--splits", "train=2024-03-08,test=2024-03-10", "--guard", "1d")
    assert done.returncode == 0, done.stderr
    assert (
        "3 days with 8 frames each, 2 channels every 360 minutes at 64×64 (float32)" in done.stdout
    )
    assert "fetch and process 3 days, pack 3 days" in done.stdout
    assert "will be fitted to the frames on 2024-03-08" in done.stdout
    assert "Splits     train 1 day, test 1 day, with a gap of 1 day between splits" in done.stdout
    assert len(archive.log.requests) == asked
    missing = sdoml("release")
    assert missing.returncode == 1
    assert (
        f"no dataset at {tmp_path / 'data'}: set --store to the dataset's folder" in missing.stderr
    )
    assert not (tmp_path / "data").exists()
    assert not (tmp_path / "data.dagster").exists()


def test_build_ends_with_a_release_and_the_next_build_does_nothing(
    roots: None, archive: Archive, tmp_path: Path
) -> None:
    first = build("--name", "my-sun", "--fit", "2024-03-08..2024-03-09")
    assert first.returncode == 0, first.stderr
    assert "ingest: 24 frames" in first.stderr
    assert "HMI_M           12      100%  12" in first.stdout
    folder = tmp_path / "data/releases/my-sun"
    assert f"Release    {folder}" in first.stdout
    assert f"Picture    {folder}/contact_sheet.png" in first.stdout
    assert f"sdoml view {folder}" in first.stdout
    assert f"dataset = SDOMLlite('{folder}', channels=['AIA_0171', 'HMI_M'])\n" in first.stdout
    assert len(SDOMLlite(folder, channels=["AIA_0171", "HMI_M"])) == 12
    with dg.DagsterInstance.from_config(str(tmp_path / "data.dagster")) as instance:
        runs = [(run.job_name, run.status.value) for run in instance.get_runs()]
    assert len(runs) == 3 + 1 + 3 + 1  # ingest, fit, pack, release
    assert {status for _, status in runs} == {"SUCCESS"}
    # The UI and later commands find the settings beside the store.
    saved = (tmp_path / "data.dagster/sdoml.toml").read_text()
    assert "resolution = 64" in saved
    asked = len(archive.log.requests)
    second = build("--name", "my-sun", "--fit", "2024-03-08..2024-03-09")
    assert second.returncode == 0, second.stderr
    assert "everything is finished" in second.stdout
    assert "release my-sun is up to date" in second.stdout
    assert "fitted to 2 days from 2024-03-08 to 2024-03-09" in second.stdout
    assert len(archive.log.requests) == asked
    small = sdoml("release", "--name", "small", "--encoding", "compact")
    assert small.returncode == 0, small.stderr
    compact = SDOMLlite(tmp_path / "data/releases/small", channels=["AIA_0171", "HMI_M"])
    assert compact.reader.catalog.encoding == "compact"
    assert len(compact) == 12
    assert "small.png" in sdoml("release", "--encoding", "small.png").stderr
    status = sdoml("status")
    assert "3 finished, with an up-to-date shard (2024-03-08 … 2024-03-10)" in status.stdout
    assert sdoml("verify").returncode == 0
    check_exports(tmp_path)
    shard = tmp_path / "data/shards/2024/sdoml-lite-2024-03-09.tar"
    shard.chmod(0o644)
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    found = sdoml("verify", "--only-report")
    assert found.returncode == 1
    assert "sdoml-lite-2024-03-09.tar" in found.stderr
    raw = len(list((tmp_path / "data/raw").rglob("*.fits")))
    dry = sdoml("prune")
    assert "Nothing was deleted" in dry.stdout
    assert len(list((tmp_path / "data/raw").rglob("*.fits"))) == raw


def check_exports(folder: Path) -> None:
    """Export the release in this process, which is faster than starting one for each command."""

    def export(*arguments: str) -> str:
        with patch.dict(os.environ):  # commands pass options on as environment variables
            return CliRunner().invoke(commands, ["export", *arguments]).output

    output = export("surya", "--name", "my-sun", "--to", "surya", "--days", "2024-03-10")
    assert "scalers    computed from the sketches of 2024-03-08 to 2024-03-09" in output
    assert "exported   4 samples to surya" in output
    assert len(list((folder / "surya/2024/03").glob("20240310_*.nc"))) == 4
    output = export("zarr", "--name", "my-sun", "--to", "zarr", "--channels", "HMI_M")
    assert "array      HMI_M 2024: 12 frames" in output
    assert (folder / "zarr/hmi.zarr/2024/M/.zarray").exists()
    assert "not a release: run sdoml release" in export("surya", "--to", "other")


def test_splits_fit_the_constants_to_the_training_split(roots: None, tmp_path: Path) -> None:
    assert build().returncode == 0
    splits = ["--splits", "train=2024-03-08,test=2024-03-10", "--name", "split"]
    refused = sdoml("release", *splits)
    assert refused.returncode == 1
    assert "Run sdoml build with the same --splits" in refused.stderr
    done = build(*splits, "--guard", "1d")
    assert done.returncode == 0, done.stderr
    assert "all days will be packed again" in done.stdout
    folder = tmp_path / "data/releases/split"
    assert sorted(path.name for path in folder.glob("*.tar")) == [
        "split-test-1.tar",
        "split-train-1.tar",
    ]
    assert "fitted to the `train` split only" in (folder / "README.md").read_text()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_running_the_command_again_resumes_an_interrupted_build(
    roots: None, frame_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: int
) -> None:
    with Archive(cache=frame_cache, absences=False, latency=0.5) as slow:
        monkeypatch.setenv("SDOML_AIA_ROOTS", slow.aia_root)
        monkeypatch.setenv("SDOML_HMI_ROOTS", slow.hmi_root)
        monkeypatch.setenv("SDOML_MAX_CONNECTIONS", "1")
        raw = tmp_path / "data/raw/2024/03/09"
        log = tmp_path / "build.log"
        run = start_module("sdoml_dagster.cli", "build", *SMALL, *DAYS, env=os.environ, log=log)
        deadline = time.monotonic() + 100
        while not any(raw.glob("*.fits")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(run.pid, how)
        run.wait(60)
        said = log.read_text()
        if how != signal.SIGKILL:
            assert run.returncode == 130, said
            assert "interrupted: run the same command again to resume" in said
        fetched = {str(path) for path in (tmp_path / "data/raw").rglob("*.fits")}
        assert 4 <= len(fetched) < 12
        asked = len(slow.log.requests)
        slow.latency = 0.0
        done = build()
        assert done.returncode == 0, done.stderr
        assert len(slow.log.requests) - asked <= 24 - len(fetched)
    with dg.DagsterInstance.from_config(str(tmp_path / "data.dagster")) as instance:
        statuses = {run.status.value for run in instance.get_runs()}
    assert statuses <= {"SUCCESS", "CANCELED", "FAILURE"}, "no run may remain STARTED"


def test_build_can_be_resumed_after_an_outage(
    roots: None, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDOML_RUN_RETRIES", "0")
    monkeypatch.setenv("SDOML_CONNECT_TIMEOUT", "1")
    down = build("--hmi-roots", "http://127.0.0.1:9")
    assert down.returncode == 3
    assert "ingest: 3 of 3 days failed (first: 2024-03-08: " in down.stderr
    assert "Run the same command again to resume" in down.stderr
    up = build("--hmi-roots", archive.hmi_root)
    assert up.returncode == 0, up.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resolution", "300"], "--resolution 300: 300 is not one of 64, 128"),
        (["--fit", "soon"], "'soon' is not a year, month or day"),
        (["--splits", "train"], "must have the form train=2010..2018"),
        (["--submit"], "--submit needs DAGSTER_HOME"),
        (["--workers", "0"], "0 is not in the range x>=1"),
        (["--start", "2099-01-01", "--end", "2099-01-02"], "no days to build"),
    ],
)
def test_invalid_option_is_reported_before_any_work(
    roots: None, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = build(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "data").exists()


def test_build_that_exceeds_the_disk_space_is_rejected(roots: None, tmp_path: Path) -> None:
    done = sdoml("build", "--start", "2010-06-01", "--end", "2024-01-01", "--resolution", "1024")
    assert done.returncode == 4
    assert "NOT ENOUGH" in done.stdout
    assert not (tmp_path / "data").exists()


def test_workers_build_days_in_parallel(
    roots: None, archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Event()
    home = tmp_path / "data.dagster"
    during = set()

    def wait_for_both(_: str, body: bytes) -> bytes:
        if archive.log.in_flight.total() == 2:  # one request from each run
            during.update(processes(home))
            both.set()
        assert both.wait(200), "the second run did not start"
        return body

    monkeypatch.setattr(archive, "alter", wait_for_both)
    monkeypatch.setenv("SDOML_MAX_CONNECTIONS", "1")
    monkeypatch.setenv("SDOML_READ_TIMEOUT", "250")
    done = build("--workers", "2", "--channels", "HMI_M", "--end", "2024-03-10")
    assert done.returncode == 0, done.stderr
    assert "max_concurrent_runs: 2" in (home / "dagster.yaml").read_text()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        records = instance.get_run_records(dg.RunsFilter(job_name="ingest"))
        assert len(records) == 2
        assert {record.dagster_run.status.value for record in records} == {"SUCCESS"}
        starts = [record.start_time or 0 for record in records]
        ends = [record.end_time or 0 for record in records]
        assert sorted(starts)[1] < min(ends), "the two runs must overlap"
        assert all("dagster/backfill" in record.dagster_run.tags for record in records)
    assert len(during) >= 3, "the daemon and two runs"
    deadline = time.monotonic() + 60
    while processes(home):  # the daemon's code server ends after the daemon
        assert time.monotonic() < deadline, "all must have ended"
        time.sleep(0.1)


def test_options_come_from_the_settings_model() -> None:
    from sdoml_dagster.cli.options import OWN_OPTIONS
    from sdoml_dagster.settings.model import Settings

    text = sdoml("build", "--help").stdout
    for name in Settings.model_fields.keys() - OWN_OPTIONS:
        assert f"--{name.replace('_', '-')}" in text
        assert f"SDOML_{name.upper()}" in text.replace("\n", "").replace(" ", "")
    for command in ("status", "release", "verify", "prune", "adopt"):
        assert "--store" in sdoml(command, "--help").stdout


def test_concurrent_build_of_a_store_is_rejected(roots: None, tmp_path: Path) -> None:
    from sdoml_dagster.cli.runs import only_build

    home = tmp_path / "data.dagster"
    home.mkdir()
    with only_build(home):
        done = build()
    assert done.returncode == 1
    assert f"another sdoml build is using {home}" in done.stderr


@pytest.mark.slow
def test_deployment_runs_a_submitted_build(
    environment: dict[str, str], archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDOML_START", "2024-03-08")
    monkeypatch.setenv("SDOML_END", "2024-03-10")
    monkeypatch.setenv("SDOML_CHANNELS", "HMI_M")
    # The deployment gives its code location a name, so the build must use this name.
    (tmp_path / "workspace.yaml").write_text(
        "load_from:\n"
        "  - python_module: {module_name: sdoml_dagster.definitions, location_name: sun}\n"
    )
    refused = sdoml("build", "--submit", "--cadence", "60")
    assert refused.returncode == 2
    assert "remove --cadence" in refused.stderr
    stopped = sdoml("build", "--submit")
    assert stopped.returncode == 2
    assert "no daemon is processing the queue" in stopped.stderr
    here = {name: os.environ[name] for name in os.environ if name.startswith("SDOML_")}
    with Deployment(environment | here, locations={"sun": MODULE_OPTIONS}):
        done = sdoml("build", "--submit", "--name", "submitted")
        assert done.returncode == 0, done.stderr
        again = sdoml("build", "--submit", "--name", "submitted")
    assert "release submitted is up to date" in again.stdout
    assert len(SDOMLlite(tmp_path / "store/releases/submitted", channels=["HMI_M"])) == 8
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        runs = instance.get_runs()
    assert [run.status.value for run in runs] == ["SUCCESS"] * (2 + 1 + 2 + 1)
    assert sum("dagster/backfill" in run.tags for run in runs) == 4
    assert not (tmp_path / "store.dagster").exists()
