"""Settings come from several sources, and each invalid value is reported in one clear line."""

import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from sdoml_core.channels import DEFAULT_CHANNELS
from sdoml_core.errors import SettingError
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings.model import Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("SDOML_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_match_the_public_contract() -> None:
    settings = Settings.load()
    assert settings.store == "./data"
    assert settings.start == datetime(2022, 11, 1, tzinfo=UTC)
    assert settings.end is None
    assert settings.cadence_minutes == 15
    assert settings.channels == DEFAULT_CHANNELS
    assert settings.resolution == 512
    assert settings.dtype == "float32"
    assert settings.max_connections == 4
    assert settings.threads == os.cpu_count()
    assert settings.aia_tolerance_minutes == 4
    assert settings.hmi_scale == "geometric"
    assert settings.normalization == "quantile:0.9999"
    assert settings.member_case == "upper"
    assert settings.publication_lag_days == 8
    assert settings.days_per_run == 1


def test_environment_overrides_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sdoml.toml").write_text(
        'resolution = 256\nchannels = ["hmi_m", "AIA_0171"]\nstart = 2024-03-01\n'
    )
    monkeypatch.setenv("SDOML_RESOLUTION", "128")
    settings = Settings.load()
    assert settings.resolution == 128
    assert settings.channels == ("AIA_0171", "HMI_M")
    assert settings.start == datetime(2024, 3, 1, tzinfo=UTC)


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STORE", "END", "CHANNELS", "DEGRADATION_TABLE"):
        monkeypatch.setenv(f"SDOML_{name}", "")
    settings = Settings.load()
    assert (settings.store, settings.end, settings.degradation_table) == ("./data", None, None)
    assert settings.channels == DEFAULT_CHANNELS


def test_kubernetes_service_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_GRPC", "PORT", "PORT_4000_TCP_ADDR"):
        monkeypatch.setenv(f"SDOML_{name}", "tcp://10.0.0.1:4000")
        monkeypatch.setenv(f"SDOML_DAGSTER_WEBSERVER_{name}", "10.0.0.1")
    assert Settings.load().resolution == 512


def test_settings_file_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("hmi_scale = 0.85")
    monkeypatch.setenv("SDOML_CONFIG", str(tmp_path / "other.toml"))
    assert Settings.load().hmi_scale == 0.85
    monkeypatch.setenv("SDOML_CONFIG", "absent.toml")
    with pytest.raises(SettingError, match=r"^SDOML_CONFIG=absent\.toml: the file does not exist$"):
        Settings.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("resolutoin = 256", "did you mean resolution (SDOML_RESOLUTION)?"),
        ("resolution = ", "not valid TOML"),
        ('resolution = "big"', "sdoml.toml: resolution=big: must be"),
        (
            "sdoml_resolution = 256",
            "unknown setting 'sdoml_resolution': names in sdoml.toml have no",
        ),
        ("max_connections = true", "sdoml.toml: max_connections=true: must not be true or false"),
        ("missing_recheck_hours = false", "sdoml.toml: missing_recheck_hours=false: must not be"),
        ("hmi_scale = true", "sdoml.toml: hmi_scale=true: must not be true or false"),
        (
            'aia_roots = ["http://a", "b"]',
            "sdoml.toml: aia_roots=http://a,b: each root must be an http://",
        ),
    ],
)
def test_error_names_the_settings_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sdoml.toml").write_text(text)
    with pytest.raises(SettingError) as caught:
        Settings.load()
    assert message in str(caught.value)


def test_errors_name_the_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sdoml.toml").write_text("resolution = 256\nthreads = 0")
    monkeypatch.setenv("SDOML_RESOLUTION", "500")
    with pytest.raises(SettingError) as caught:
        Settings.load()
    assert re.match(r"SDOML_RESOLUTION=500: .*; sdoml\.toml: threads=0: ", str(caught.value))


BAD = {
    "SDOML_RESOLUTION=500": "64, 128, 256, 512, 1024",
    "SDOML_CHANNELS=AIA_0999,HMI_M": "unknown channel AIA_0999",
    "SDOML_CHANNELS=,": "no channel given",
    "SDOML_CADENCE_MINUTES=7": "multiple of 15",
    "SDOML_CADENCE_MINUTES=2": "without HMI_M",
    "SDOML_CADENCE_MINUTES=0": "greater than or equal to 2",
    "SDOML_START=yesterday": "not an ISO date",
    "SDOML_START=2024-01-01T00:00:30": "must be a whole minute",
    "SDOML_END=2020-01-01": "must be later than SDOML_START",
    "SDOML_HMI_SCALE=big": "must be 'geometric' or a number",
    "SDOML_HMI_SCALE=2.1": "must be 'geometric' or a number between 0.1 and 2",
    "SDOML_DTYPE=int8": "float16",
    "SDOML_NORMALIZATION=quantile:2": "quantile",
    "SDOML_THREADS=0": "must be greater than or equal to 1",
    "SDOML_RETRY_DELAY=soon": "must be a valid number",
    "SDOML_STORE=s3:/bucket": "two slashes",
    "SDOML_STORE= ": "must be a folder or a URL",
    "SDOML_AIA_ROOTS=ftp://jsoc": "http://",
    "SDOML_HMI_ROOTS=,": "at least one root is required",
    "SDOML_MEMBER_CASE=camel": "'upper' or 'lower'",
    "SDOML_COVERAGE_ERROR=0.99": "must not exceed SDOML_COVERAGE_WARN",
    "SDOML_RESOLUTOIN=512": "did you mean resolution (SDOML_RESOLUTION)?",
    "SDOML_ANYTHING=": "unknown setting 'anything' (SDOML_ANYTHING)",
}


@pytest.mark.parametrize("assignment", BAD)
def test_error_for_a_bad_value_is_one_line_and_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, assignment: str
) -> None:
    name, _, value = assignment.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError) as caught:
        Settings.load()
    message = str(caught.value)
    assert name in message
    assert BAD[assignment] in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("SDOML_RESOLUTION", "SDOML_RESOLUTION=500"),
        ("SDOML_RESOLUTOIN", "unknown setting 'resolutoin' (SDOML_RESOLUTOIN)"),
    ],
)
@pytest.mark.slow
def test_dagster_command_line_shows_setting_errors_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, line: str
) -> None:
    monkeypatch.setenv(name, "500")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")
    command = [sys.executable, "-W", "ignore", "-m", "dagster", "asset", "materialize"]
    command += ["-m", "sdoml_dagster.definitions", "--select", "*", "--partition", "2024-03-08"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(line)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cadence", [2, 4, 8, 12, 36, 60, 90, 720])
def test_aia_only_cadence_can_be_any_even_divisor_of_a_day(cadence: int) -> None:
    assert Settings.load(channels=("AIA_0171",), cadence_minutes=cadence).cadence_minutes == cadence


def test_times_without_a_zone_are_utc() -> None:
    settings = Settings.load(start="2024-03-01T06:30", end="2024-03-02T01:00+01:00")
    assert settings.start == datetime(2024, 3, 1, 6, 30, tzinfo=UTC)
    assert settings.end == datetime(2024, 3, 2, 0, 0, tzinfo=UTC)
    assert settings.last_day == date(2024, 3, 1)


def test_partitions_are_the_days_with_slots_in_the_range() -> None:
    settings = Settings.load(start="2024-02-28T23:50", end="2024-03-01T00:01")
    assert daily_partitions(settings).get_partition_keys() == [
        "2024-02-28",
        "2024-02-29",
        "2024-03-01",
    ]
    assert settings.expected_slots(date(2024, 2, 28)) == ()
    assert len(settings.expected_slots(date(2024, 2, 29))) == 96
    assert settings.expected_slots(date(2024, 3, 1)) == (datetime(2024, 3, 1, tzinfo=UTC),)


def test_open_range_grows_daily() -> None:
    keys = daily_partitions(Settings.load(start="2024-03-01")).get_partition_keys(
        current_time=datetime(2024, 3, 5, 12, tzinfo=UTC)
    )
    assert keys == ["2024-03-01", "2024-03-02", "2024-03-03", "2024-03-04"]


def test_documentation_lists_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `SDOML_(\w+)` \| (.*?) \|", page, re.MULTILINE))
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    in_words = {"STORE", "START", "END", "AIA_ROOTS", "HMI_ROOTS", "THREADS", "DEGRADATION_TABLE"}
    in_words |= {"FAILURE_WEBHOOK"}
    for name, field in Settings.model_fields.items():
        if name.upper() in in_words:
            continue
        default = field.get_default()
        shown = (
            ",".join(default)
            if isinstance(default, tuple)
            else f"{default:g}"
            if isinstance(default, float)
            else str(default)
        )
        assert rows[name.upper()] == f"`{shown}`", name
