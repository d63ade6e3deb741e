"""A real instance in a folder of its own, and a way to run assets on it."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
import pytest

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings import Settings

DAILY = ("raw_aia", "raw_hmi", "processed_aia", "processed_hmi", "shards")
Materialize = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def instance(environment: dict[str, str]) -> Iterator[dg.DagsterInstance]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dg.DagsterInstance.from_ref(
            dg.DagsterInstance.get().get_ref()  # of DAGSTER_HOME
        ) as found:
            yield found


@pytest.fixture
def materialize(instance: dg.DagsterInstance) -> Materialize:
    """Run assets with their checks, for one day, a range of days or none."""

    def run(
        *names: str,
        day: str | None = None,
        days: tuple[str, str] | None = None,
        config: dict[str, Any] | None = None,
        **overrides: Any,
    ) -> dg.ExecuteInProcessResult:
        tags = {}
        if days is not None:
            tags = {
                "dagster/asset_partition_range_start": days[0],
                "dagster/asset_partition_range_end": days[1],
            }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=DeprecationWarning)
            job = build_defs(Settings.load(**overrides)).resolve_implicit_global_asset_job_def()
            return job.execute_in_process(
                asset_selection=[dg.AssetKey(name) for name in names],
                partition_key=day,
                tags=tags,
                instance=instance,
                raise_on_error=False,
                run_config={"ops": config} if config else None,
            )

    return run


@pytest.fixture
def findings() -> Callable[[dg.ExecuteInProcessResult], dict[tuple[str, str], Any]]:
    """Check evaluations of a run, by partition and name."""

    def of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], Any]:
        evaluations = result.get_asset_check_evaluations()
        return {
            (f"{e.asset_key.to_user_string()}.{e.check_name}", str(e.partition)): e
            for e in evaluations
        }

    return of
