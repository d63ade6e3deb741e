"""SDOML_NAME gives the datasets in an instance distinct names for their assets and jobs."""

import dagster as dg
import pytest

from sdoml_core.errors import SettingError
from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import run_assets


def test_named_dataset_has_a_prefix_everywhere(environment: dict[str, str]) -> None:
    defs = build_defs(Settings.load(name="aia-only", channels="AIA_0171"))
    graph = defs.resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    assert {key.path[0] for key in keys} == {"aia_only"}
    for key in graph.materializable_asset_keys:
        assert graph.get(key).group_name == "aia_only"
    assert graph.get(dg.AssetKey(["aia_only", "raw_aia"])).assets_def.op.pool == "aia_only_jsoc"
    assert {check.asset_key.path[0] for check in graph.asset_check_keys} == {"aia_only"}
    ingest = defs.resolve_job_def("ingest")
    assert ingest.tags["sdoml/dataset"] == "aia-only"


def test_datasets_in_one_instance_are_independent(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    day, steps = "2024-03-08", ("raw_hmi", "processed_hmi", "normalization_stats", "shards")
    other = {"name": "hmi-only", "store": f"{settings.store}-hmi", "channels": "HMI_M"}
    assert run_assets(instance, *steps, "release", day=day, **other).success
    shards = dg.AssetKey(["hmi_only", "shards"])
    assert instance.get_materialized_partitions(shards) == {day}
    assert instance.get_materialized_partitions(dg.AssetKey("shards")) == set()
    record = instance.get_latest_materialization_event(dg.AssetKey(["hmi_only", "release"]))
    assert record is not None
    assert record.asset_materialization is not None
    assert str(record.asset_materialization.metadata["release"].value).endswith(
        "store-hmi/releases/hmi-only"
    )


@pytest.mark.parametrize("name", ["a_b", "a b", "-a", "a-", "a--b", "a/b", "ä"])
def test_name_may_contain_only_letters_digits_and_single_hyphens(
    environment: dict[str, str], name: str
) -> None:
    with pytest.raises(SettingError, match="SDOML_NAME"):
        Settings.load(name=name)


def test_error_for_a_rejected_root_shows_no_password(environment: dict[str, str]) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.load(aia_roots="https://a.example/x,ada:se/cret@jsoc,http://bo:b@c@host/y")
    assert "SDOML_AIA_ROOTS=https://a.example/x,***@jsoc,http://***@host/y" in str(caught.value)
