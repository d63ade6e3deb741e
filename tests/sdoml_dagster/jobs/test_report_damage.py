"""A damaged day becomes stale in Dagster, and a release does not silently leave it out."""

from pathlib import Path

import dagster as dg

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.sdoml_dagster.assets.test_staleness import stale
from tests.support.runs import FIRST, SECOND, Materialize


def verify(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_defs(Settings.load()).resolve_job_def("verify_store")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def test_damaged_shard_is_stale_and_blocks_the_release(
    built: dg.DagsterInstance, materialize: Materialize, settings: Settings
) -> None:
    shard = Path(settings.store, f"shards/2024/sdoml-lite-{FIRST}.tar")
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    assert not verify(built).success
    assert not shard.exists(), "the damaged shard must be moved aside"
    assert stale(built, FIRST, SECOND) == {f"shards@{FIRST}"}
    check = dg.AssetCheckKey(dg.AssetKey("shards"), "readable")
    (last,) = built.event_log_storage.get_asset_check_execution_history(check, limit=1)
    assert (last.partition, last.status.value) == (FIRST, "FAILED")

    refused = materialize("release")
    assert not refused.success
    (failed,) = [e for e in refused.all_events if e.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error is not None
    assert f"verify_store moved the damaged shards for {FIRST}" in error.message
    assert "run build_shards for these days first" in error.message

    assert materialize("shards", day=FIRST).success
    assert stale(built, FIRST, SECOND) == set()
    assert materialize("release").success


def test_rebuilding_a_damaged_day_leaves_nothing_stale(
    built: dg.DagsterInstance, materialize: Materialize, settings: Settings
) -> None:
    frames = Path(settings.store, "processed/2024/03/08/HMI_M.npy")
    data = bytearray(frames.read_bytes())
    data[5000] ^= 1
    frames.write_bytes(data)
    assert not verify(built).success
    assert stale(built, FIRST) == {f"processed_hmi@{FIRST}", f"shards@{FIRST}"}
    assert materialize("processed_hmi", day=FIRST).success
    assert stale(built, FIRST) == set()
