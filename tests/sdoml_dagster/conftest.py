"""A real Dagster instance in a temporary folder, and functions to run assets on it."""

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.support.runs import DAILY, FIRST, SECOND, Materialize, run_assets
from tests.support.s3 import AWS, serving_s3


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two built days that tests share."""
    return tmp_path_factory.mktemp("template")


@pytest.fixture
def prebuilt(environment: dict[str, str], template: Path) -> None:
    """Build two days, with constants fitted to the first day."""
    folders = {name: Path(environment[name]) for name in ("SDOML_STORE", "DAGSTER_HOME")}
    if not (template / "done").exists():
        with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
            assert run_assets(instance, *DAILY, "normalization_stats", day=FIRST).success
            assert run_assets(instance, *DAILY, day=SECOND).success
        for name, folder in folders.items():
            shutil.copytree(folder, template / name, dirs_exist_ok=True)
        (template / "done").touch()
    for name, folder in folders.items():
        shutil.copytree(template / name, folder, dirs_exist_ok=True)


@pytest.fixture
def instance(
    environment: dict[str, str], request: pytest.FixtureRequest
) -> Iterator[dg.DagsterInstance]:
    """A real instance. It has two built days if the test uses the fixture `built`."""
    if "built" in request.fixturenames:
        request.getfixturevalue("prebuilt")
    with dg.DagsterInstance.from_config(environment["DAGSTER_HOME"]) as found:
        yield found


@pytest.fixture
def built(prebuilt: None, instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """A real instance with two built days."""
    return instance


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    """`run_assets` on this instance."""
    return functools.partial(run_assets, instance)


@pytest.fixture
def findings() -> Callable[[dg.ExecuteInProcessResult], dict[tuple[str, str], Any]]:
    """A function that returns a run's check evaluations by check and partition."""

    def of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], Any]:
        evaluations = result.get_asset_check_evaluations()
        return {
            (f"{e.asset_key.to_user_string()}.{e.check_name}", str(e.partition)): e
            for e in evaluations
        }

    return of


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """The address of a local S3 server."""
    with serving_s3() as address:
        yield address


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The file system with the bucket ``data``, which is emptied after the test."""
    import s3fs

    for name, value in (AWS | {"AWS_ENDPOINT_URL": s3_endpoint}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    fs.mkdir("data")
    yield fs
    fs.rm("data", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
