"""The code location: names, descriptions, imports, credentials and failure messages."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.instance.home import INSTANCE
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY, Materialize

ARCHIVE = {"jsoc_aia", "jsoc_hmi"}
LIVE = {"live_frames", "live_shards"}
"""External assets. The job that records them uses ops, so a run for a day can select all assets."""

ASSETS = {*DAILY, "normalization_stats", "release"}
JOBS = {"ingest", "fit_normalization", "build_shards", "daily_update", "make_release"}
MAINTENANCE = {"verify_store", "prune_raw", "adopt_store"}


@pytest.fixture
def graph(settings: Settings) -> AssetGraph:
    return build_defs(settings).resolve_asset_graph()


def test_assets_jobs_and_schedule_have_their_public_names(settings: Settings) -> None:
    defs = build_defs(settings)
    keys = defs.resolve_asset_graph().get_all_asset_keys()
    assert {key.to_user_string() for key in keys} == ASSETS | ARCHIVE | LIVE
    assert {job.name for job in defs.resolve_all_job_defs()} >= JOBS | MAINTENANCE | {"live_update"}
    schedule = defs.resolve_schedule_def("daily_update_schedule")
    assert schedule.cron_schedule == "0 6 * * *"
    assert schedule.execution_timezone == "UTC"


@pytest.mark.parametrize("name", sorted(ASSETS))
def test_assets_have_descriptions(graph: AssetGraph, name: str) -> None:
    node = graph.get(dg.AssetKey(name))
    spec = node.assets_def.specs_by_key[dg.AssetKey(name)]
    assert len(spec.description or "") > 200
    assert spec.group_name == "sdoml_lite"
    assert spec.owners == ["team:sdoml-lite"]
    assert spec.kinds
    assert spec.code_version
    assert node.assets_def.op.retry_policy is not None


def test_ledger_columns_are_in_the_catalog(graph: AssetGraph) -> None:
    for name in DAILY[:4]:
        schema = graph.get(dg.AssetKey(name)).metadata["dagster/column_schema"]
        columns = {column.name: column.description for column in schema.columns}
        assert {"slot", "channel", "status", "reason"} <= columns.keys()
        assert all(columns.values())


def test_raw_assets_share_the_pool(graph: AssetGraph) -> None:
    pools = {name: graph.get(dg.AssetKey(name)).assets_def.op.pool for name in DAILY}
    assert pools == dict.fromkeys(DAILY[:2], "jsoc") | dict.fromkeys(DAILY[2:])


def test_archive_assets_are_upstream_of_raw_frames(settings: Settings) -> None:
    graph = build_defs(settings).resolve_asset_graph()
    for instrument in ("aia", "hmi"):
        node = graph.get(dg.AssetKey(f"jsoc_{instrument}"))
        assert node.is_external
        assert graph.get(dg.AssetKey(f"raw_{instrument}")).parent_keys == {node.key}
        roots = settings.aia_roots if instrument == "aia" else settings.hmi_roots
        assert node.metadata["root_1"].value == roots[0]


def test_no_asset_has_a_freshness_policy(graph: AssetGraph) -> None:
    assert all(graph.get(dg.AssetKey(name)).freshness_policy is None for name in ASSETS)


def test_assets_have_code_references(graph: AssetGraph) -> None:
    for name in ASSETS:
        references = graph.get(dg.AssetKey(name)).metadata["dagster/code_references"]
        (source,) = references.code_references
        assert Path(source.file_path).is_file()
        assert "sdoml_dagster/assets" in source.file_path


@pytest.mark.parametrize(
    ("channels", "absent"), [("HMI_M", "aia"), ("AIA_0171", "hmi")], ids=["HMI only", "AIA only"]
)
def test_instrument_without_channels_has_no_assets(
    environment: dict[str, str], channels: str, absent: str
) -> None:
    defs = build_defs(Settings.load(channels=channels))
    keys = {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {key for key in ASSETS | ARCHIVE | LIVE if not key.endswith(f"_{absent}")}
    assert {job.name for job in defs.resolve_all_job_defs()} >= JOBS


def test_run_config_fields_have_descriptions(settings: Settings) -> None:
    defs = build_defs(settings)
    for name in ("fit_normalization", "make_release", *MAINTENANCE):
        described = {
            f"{name}: {field}": about.description
            for op in defs.resolve_job_def(name).graph.node_defs
            for field, about in getattr(op.config_schema.config_type, "fields", {}).items()
        }
        assert described
        assert all(described.values()), described


def test_launchpads_are_prefilled_with_every_field(environment: dict[str, str]) -> None:
    defs = build_defs(Settings.load(name="hmi-only", channels="HMI_M"))
    for name in ("fit_normalization", "make_release", *MAINTENANCE):
        job = defs.resolve_job_def(name)
        assert job.run_config is not None
        ((op, options),) = job.run_config["ops"].items()
        schema = job.graph.node_named(op).definition.config_schema
        assert options["config"].keys() == schema.config_type.fields.keys()
        dg.validate_run_config(job, job.run_config)


CREDENTIALS = "http://ada:secret@127.0.0.1:9/aia"


def test_resources_use_credentials_without_showing_them(environment: dict[str, str]) -> None:
    from sdoml_dagster.resources import ArchiveResource

    shown = ArchiveResource.of(Settings.load(aia_roots=CREDENTIALS))
    assert "secret" not in repr(shown._resolved_config_dict)
    # Create the resource from its configuration, as Dagster does in a run.
    again = ArchiveResource(**shown._resolved_config_dict)
    with again.client("AIA") as client:
        assert [mirror.root for mirror in client.mirrors] == [CREDENTIALS]


def test_definitions_load_without_heavy_packages(environment: dict[str, str]) -> None:
    heavy = ["torch", "astropy", "numba", "matplotlib", "numpy", "pyarrow", "PIL"]
    code = f"import sys, sdoml_dagster.definitions; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert found.strip() == "[]"


def test_instance_files_have_consistent_settings() -> None:
    one = yaml.safe_load(INSTANCE.read_text())
    many = yaml.safe_load((Path(__file__).parents[2] / "docker/dagster.yaml").read_text())
    for rules in (one, many):
        assert rules["telemetry"] == {"enabled": False}
        assert rules["concurrency"]["pools"]["granularity"] == "op"
        assert rules["concurrency"]["runs"]["max_concurrent_runs"] > 0
        assert rules["run_monitoring"]["enabled"]
        assert rules["run_monitoring"]["free_slots_after_run_end_seconds"] > 0
    assert one["run_retries"] == many["run_retries"]


@pytest.mark.parametrize(
    ("steps", "last", "config", "words"),
    [
        ([], "processed_hmi", None, ["raw_hmi of 2024-03-08", "run ingest for the day first"]),
        ([], "shards", None, ["run fit_normalization first"]),
        ([], "normalization_stats", None, ["run ingest first"]),
        (["raw_hmi"], "normalization_stats", {"first_day": "soon"}, ["first_day='soon'"]),
        ([], "release", None, ["no shard", "run build_shards"]),
    ],
    ids=["no raw", "no constants", "no processed", "bad config", "no shards"],
)
def test_missing_input_is_reported_in_one_line_and_not_retried(
    materialize: Materialize,
    steps: list[str],
    last: str,
    config: dict[str, str] | None,
    words: list[str],
) -> None:
    partitioned = last in DAILY
    for step in steps:
        assert materialize(step, day="2024-03-08").success
    result = materialize(
        last,
        day="2024-03-08" if partitioned else None,
        config={last: {"config": config}} if config else None,
    )
    assert not result.success
    failures = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert len(failures) == 1
    assert not any(e.event_type_value == "STEP_UP_FOR_RETRY" for e in result.all_events)
    error = failures[0].step_failure_data.error
    assert error is not None
    for word in words:
        assert word in error.message


def test_only_temporary_errors_are_retried() -> None:
    from sdoml_core.errors import MissingInputError, OutageError, StoreError, StorePathError

    for error, retried in (
        (OutageError, True),
        (StoreError, True),
        (StorePathError, False),
        (MissingInputError, False),
    ):
        with pytest.raises(dg.Failure) as caught, failures_explained():
            raise error("why")
        assert caught.value.allow_retries is retried
        assert caught.value.description == "why"


def test_last_attempt_fails_with_its_reason(
    materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDOML_HMI_ROOTS", "http://127.0.0.1:9")
    result = materialize("raw_hmi", day="2024-03-08", attempts=1, run_retries=1)
    retries = [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]
    assert len(retries) == 1
    (failed,) = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    error = failed.step_failure_data.error
    assert error is not None
    assert "Exceeded max_retries" not in error.to_string()
    assert "add another mirror to SDOML_HMI_ROOTS" in error.message


def test_dg_commands_work(environment: dict[str, str]) -> None:
    dg_command = Path(sys.executable).with_name("dg")
    root = Path(__file__).parents[2]

    def run(*options: str) -> str:
        done = subprocess.run(
            [dg_command, *options], cwd=root, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert "Warning" not in said, "the command must not issue warnings"
        assert "does not match" not in said
        return said

    assert "All definitions loaded successfully" in run("check", "defs")
    assert "normalization_stats" in run("list", "defs", "--json")
    launched = run("launch", "--assets", "raw_hmi", "--partition", "2024-03-08")
    assert "raw_hmi 2024-03-08: 4/4 frames" in launched
