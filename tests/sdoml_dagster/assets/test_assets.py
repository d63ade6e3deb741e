"""The metadata of a materialized day, and when constants are fitted."""

import base64
import io
from datetime import date
from logging import WARNING

import dagster as dg
import pytest
from PIL import Image

from sdoml_dagster.pipeline.fit import fit_store
from sdoml_dagster.pipeline.frozen_constants import freeze
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store
from tests.support.runs import DAILY, FIRST, SECOND, Materialize, run_assets

THIRD = "2024-03-10"


@pytest.fixture
def shown(built: dg.DagsterInstance) -> dict[str, dict[str, dg.MetadataValue]]:
    """The metadata of each asset, as recorded when the first day was built."""
    found = {}
    for name in (*DAILY, "normalization_stats"):
        records = built.fetch_materializations(dg.AssetKey(name), limit=9, ascending=True).records
        materialization = records[0].asset_materialization
        assert materialization is not None
        assert materialization.partition in {FIRST, None}
        found[name] = dict(materialization.metadata)
    return found


def test_metadata_has_plottable_numbers(shown: dict[str, dict[str, dg.MetadataValue]]) -> None:
    for name, entry in {
        "raw_aia": "coverage_AIA_0171",
        "raw_hmi": "coverage",
        "processed_aia": "mean_AIA_0171",
        "processed_hmi": "mean_HMI_M",
        "shards": "saturated_AIA_0171",
    }.items():
        assert isinstance(shown[name][entry], dg.FloatMetadataValue), name
    assert shown["shards"]["complete_samples"].value == 4


def test_ledgers_are_summarized_in_tables(shown: dict[str, dict[str, dg.MetadataValue]]) -> None:
    for name in DAILY[:4]:
        table = shown[name]["frames_by_status"]
        assert isinstance(table, dg.TableMetadataValue)
        assert all(record.data["ok"] == 4 for record in table.records)
        assert isinstance(shown[name]["absent"], dg.TableMetadataValue)


def test_tables_have_column_descriptions_and_short_numbers(
    shown: dict[str, dict[str, dg.MetadataValue]],
) -> None:
    tables = {
        "normalization_stats": ["channels"],
        "processed_aia": ["frames_by_status", "absent"],
        "raw_hmi": ["frames_by_status", "absent"],
    }
    for asset, names in tables.items():
        for name in names:
            table = shown[asset][name]
            assert isinstance(table, dg.TableMetadataValue)
            columns = table.schema.columns
            assert columns[0].name in {"channel", "slot"}
            assert all(column.description for column in columns)
            for record in table.records:
                assert record.data.keys() == {column.name for column in columns}
                for value in record.data.values():
                    assert not isinstance(value, float) or len(repr(value)) < 14
    constants = shown["normalization_stats"]["channels"].records[0].data
    assert all(
        value == float(f"{value:.6g}") for value in constants.values() if isinstance(value, float)
    )


def test_paths_are_recorded_as_path_metadata(shown: dict[str, dict[str, dg.MetadataValue]]) -> None:
    for asset, name in {
        "raw_aia": "ledger",
        "processed_aia": "frames",
        "shards": "index",
        "normalization_stats": "constants",
    }.items():
        assert isinstance(shown[asset][name], dg.PathMetadataValue)


def test_index_columns_have_descriptions(
    shown: dict[str, dict[str, dg.MetadataValue]],
) -> None:
    schema = shown["shards"]["dagster/column_schema"].value
    assert all(column.description for column in schema.columns)


@pytest.mark.parametrize(
    ("asset", "entry"),
    [
        ("processed_aia", "contact_sheet"),
        ("processed_hmi", "contact_sheet"),
        ("shards", "contact_sheet"),
        ("normalization_stats", "histograms"),
    ],
)
def test_pictures_are_small_and_complete(
    shown: dict[str, dict[str, dg.MetadataValue]], asset: str, entry: str
) -> None:
    value = shown[asset][entry]
    assert isinstance(value, dg.MarkdownMetadataValue)
    assert len(value.md_str or "") <= 20_000
    data = base64.b64decode((value.md_str or "").split("base64,")[1].rstrip(")"))
    picture = Image.open(io.BytesIO(data))
    picture.load()
    assert picture.width > 100


def test_daily_run_keeps_the_constants_and_their_picture(
    shown: dict[str, dict[str, dg.MetadataValue]], materialize: Materialize
) -> None:
    result = materialize(*DAILY, "normalization_stats", day=THIRD)
    event = result.asset_materializations_for_node("normalization_stats")[0]
    first = shown["normalization_stats"]
    assert event.metadata["version"] == first["version"]
    assert event.metadata["histograms"] == first["histograms"]
    assert event.metadata["refitted"].value is False


def test_separate_run_refits_the_constants(
    shown: dict[str, dict[str, dg.MetadataValue]], materialize: Materialize
) -> None:
    event = materialize("normalization_stats").asset_materializations_for_node(
        "normalization_stats"
    )[0]
    assert event.metadata["days"].value == 2
    assert event.metadata["version"] != shown["normalization_stats"]["version"]


def test_fit_reports_the_days_it_leaves_out(
    built: dg.DagsterInstance, materialize: Materialize, settings: Settings
) -> None:
    Store(settings.store).delete(layout.sketches(date.fromisoformat(SECOND), "HMI"))
    result = materialize("normalization_stats")
    assert result.success
    (event,) = result.asset_materializations_for_node("normalization_stats")
    assert event.metadata["left_out_days"].value == [SECOND]
    assert event.metadata["days"].value == 1
    warnings = [log.user_message for log in built.all_logs(result.run_id) if log.level == WARNING]
    assert warnings == [
        f"Left out 1 day because of incomplete processing (first: {SECOND}). "
        "Run ingest again to complete the processing"
    ]


def test_constants_from_another_instance_have_no_picture(
    built: dg.DagsterInstance, settings: Settings
) -> None:
    def shown(instance: dg.DagsterInstance) -> dict[str, dg.MetadataValue]:
        result = run_assets(instance, "normalization_stats", day=FIRST)
        assert result.success
        (event,) = result.asset_materializations_for_node("normalization_stats")
        assert event.metadata["refitted"].value is False
        return dict(event.metadata)

    assert "histograms" in shown(built)
    with dg.DagsterInstance.ephemeral() as fresh:
        first = shown(fresh)
        assert "histograms" not in first
        assert shown(fresh) == first, "there is no earlier picture to keep"
    store = Store(settings.store)
    other = fit_store(settings.model_copy(update={"normalization": "max"}), store)
    freeze(store, other.normalization, replace=True)
    assert "histograms" not in shown(built), "the earlier picture shows different constants"
