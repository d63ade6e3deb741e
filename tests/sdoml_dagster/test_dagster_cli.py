"""Output of Dagster's command line: user errors, a run's progress, and failures."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import pytest

from sdoml_dagster.dagster_cli import range_notice
from sdoml_dagster.run_logger import tell
from tests.support.commands import run_module

UNKNOWN_CONFIG = '{"ops": {"normalization_stats": {"config": {"until": "2024-03-08"}}}}'
DAY = ("--partition", "2024-03-08")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command without Dagster's notice that `dg launch` supersedes it.

    Dagster issues the notice before it imports any user code. All other warnings are shown.
    """
    environment = os.environ | {"PYTHONWARNINGS": "ignore::FutureWarning"}
    command = ("asset", "materialize", "-m", "sdoml_dagster.definitions", *options)
    return run_module("dagster", *command, env=environment)


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the output lines of a run without their times."""
    lines = (done.stdout + done.stderr).splitlines()
    said = [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ (\w+) +", r"\1 - ", line) for line in lines]
    # This line is printed once per machine.
    return [line for line in said if "compiling" not in line]


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--select", "raw_hmi", "--partition", "yesterday"], {}, ["yesterday", "2024-03-01"]),
        (
            ["--select", "raw_hmi", "--partition", "2024-3-8"],
            {},
            ["write one day, such as 2024-03-08"],
        ),
        (
            ["--select", "raw_hmi", "--partition-range", "2024-03-01..2024-03-02"],
            {"SDOML_DAYS_PER_RUN": "0"},
            ["..2024-03-02: write a range as 2024-03-08...2024-03-09"],
        ),
        (["--select", "raw_hmi", "--partition=2024-02-29"], {}, ["=2024-02-29", "SDOML_START"]),
        (
            ["--select", "raw_hmi", "--partition-range", "2024-03-01...2024-03-09"],
            {"SDOML_DAYS_PER_RUN": "0", "SDOML_END": "2024-03-05"},
            ["range 2024-03-01...2024-03-09", "2024-03-01 to 2024-03-04", "SDOML_END=2024-03-05"],
        ),
        (
            ["--select", "raw_hmi", "--partition-range", "2024-03-01...2024-03-02"],
            {},
            ["SDOML_DAYS_PER_RUN=0", "sdoml build --start"],
        ),
        (["--select", "release", "--partition", "2024-03-08"], {}, ["omit the option"]),
        (["--select", "raw_hmi"], {}, ["--partition 2024-03-01"]),
        (["--select", "row_hmi", "--partition", "2024-03-08"], {}, ["row_hmi", "asset list"]),
        (["--select", "raw_hmi"], {"SDOML_RESOLUTION": "7"}, ["SDOML_RESOLUTION=7"]),
        (
            ["--select", "normalization_stats", "--config-json", UNKNOWN_CONFIG],
            {},
            ["until", "first_day", "last_day"],
        ),
        (
            ["--select", "raw_aia raw_hmi", *DAY],
            {},
            ["raw_aia raw_hmi: separate asset names with commas"],
        ),
        (
            ["--select", "raw_hmi", "--partition", "2098-01-01"],
            {"SDOML_END": "2099-01-01"},
            ["to 2098-12-31, so far up to yesterday (SDOML_START"],
        ),
    ],
    ids=[
        "no day",
        "malformed day",
        "malformed range",
        "before the start",
        "after the end",
        "range",
        "unpartitioned",
        "no partition",
        "no asset",
        "setting",
        "config",
        "spaces",
        "future",
    ],
)
def test_command_line_error_is_one_line_with_a_remedy(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    variables: dict[str, str],
    words: list[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    done = run(*options)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    for word in words:
        assert word in done.stderr


def ended_by(error: str) -> subprocess.CompletedProcess[str]:
    """Run Dagster's command line and let it end with an error."""
    program = (
        "import sys, dagster as dg; sys.argv = ['dagster', 'asset', 'list'];"
        "from sdoml_dagster.dagster_cli import set_up;"
        "from sdoml_dagster.settings.model import Settings;"
        f"set_up(Settings.load()); raise {error}"
    )
    command = [sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_unexpected_error_keeps_its_traceback(
    environment: dict[str, str],
) -> None:
    for error in (
        "ZeroDivisionError('unexpected')",
        "dg.DagsterInvalidSubsetError('another problem with a partition')",
    ):
        done = ended_by(error)
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback (most recent call last):")
        assert error[-12:-2] in done.stderr.splitlines()[-1]


def test_partition_error_is_one_line_if_no_partition_is_given(
    environment: dict[str, str],
) -> None:
    done = ended_by("dg.DagsterInvalidSubsetError('no such partition key: 2031')")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("no --partition: write one day, such as 2024-03-08")


def test_run_prints_its_start_asset_log_lines_and_end(environment: dict[str, str]) -> None:
    lines = said(run("--select", "raw_hmi,processed_hmi", *DAY))
    assert lines[0] == 'INFO - Started execution of run for "__ASSET_JOB".'
    assert lines[1] == "INFO - raw_hmi 2024-03-08: 4 frames"
    assert lines[2].startswith("INFO - raw_hmi 2024-03-08: 4/4 frames, ")
    assert lines[-1] == 'INFO - Finished execution of run for "__ASSET_JOB".'
    assert len(lines) == 6


def test_expected_failure_is_reported_in_one_line(environment: dict[str, str]) -> None:
    _, failure, end, _ = said(run("--select", "processed_hmi", *DAY))
    assert failure.startswith("ERROR - processed_hmi: raw_hmi of 2024-03-08 is not in ")
    assert end.endswith("failed. Steps failed: ['processed_hmi'].")


def test_outage_and_retries_are_reported_in_one_line_each(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "HMI_ROOTS": "http://127.0.0.1:9",
        "ATTEMPTS": "1",
        "RUN_RETRIES": "1",
    }.items():
        monkeypatch.setenv(f"SDOML_{name}", value)
    monkeypatch.setenv("SDOML_RETRY_DELAY", "0")
    lines = said(run("--select", "raw_hmi", *DAY))
    (retry,) = [line for line in lines if line.startswith("WARNING")]
    (failure,) = [line for line in lines if line.startswith("ERROR - raw_hmi")]
    assert retry.endswith("add another mirror to SDOML_HMI_ROOTS; retrying in 0 s")
    assert failure == f"ERROR{retry.removeprefix('WARNING').removesuffix('; retrying in 0 s')}"
    assert not any("Stack Trace" in line for line in lines)


def test_wrong_root_causes_a_warning_in_the_run_log(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = environment["SDOML_HMI_ROOTS"] + "/elsewhere"
    monkeypatch.setenv("SDOML_HMI_ROOTS", wrong)
    done = run("--select", "raw_hmi", *DAY)
    assert done.returncode == 0, "missing frames must not fail the run"
    (warning,) = [line for line in said(done) if line.startswith("WARNING")]
    assert warning == (
        f"WARNING - raw_hmi 2024-03-08: nothing was found at {wrong}; is SDOML_HMI_ROOTS right?"
    )


@pytest.fixture
def checked() -> dg.ExecuteInProcessResult:
    """A run with checks that pass, warn and fail, and with an unexpected error."""

    @dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="thing") for name in ("a", "b", "c")])
    def thing() -> Iterator[object]:
        yield dg.MaterializeResult()
        yield dg.AssetCheckResult(check_name="a", passed=True, description="fine")
        for name, severity in ("b", dg.AssetCheckSeverity.WARN), ("c", dg.AssetCheckSeverity.ERROR):
            yield dg.AssetCheckResult(
                check_name=name, passed=False, severity=severity, description=f"{name} is wrong"
            )

    @dg.asset(deps=[thing])
    def broken() -> None:
        raise ZeroDivisionError("unexpected")

    return dg.materialize([thing, broken], raise_on_error=False)


def test_each_failed_check_is_reported_in_one_line(checked: dg.ExecuteInProcessResult) -> None:
    told = [
        tell(event)
        for event in checked.all_events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]
    assert told == [
        (logging.DEBUG, "thing: a: fine"),
        (logging.WARNING, "thing: b: b is wrong"),
        (logging.ERROR, "thing: c: c is wrong"),
    ]


def test_unexpected_error_prints_one_traceback(
    checked: dg.ExecuteInProcessResult,
) -> None:
    told = [tell(event) for event in checked.all_events]
    traces = [line for level, line in told if "Traceback" in line or "Stack Trace" in line]
    assert len(traces) == 1
    assert "ZeroDivisionError: unexpected" in traces[0]
    assert 'raise ZeroDivisionError("unexpected")' in traces[0]


def test_failure_before_any_step_shows_its_cause() -> None:
    @dg.resource
    def broken(_: dg.InitResourceContext) -> None:
        raise RuntimeError("no such device")

    @dg.asset(required_resource_keys={"broken"})
    def thing() -> None:
        """Never built."""

    result = dg.materialize([thing], resources={"broken": broken}, raise_on_error=False)
    lines = [line for event in result.all_events for level, line in [tell(event)] if level >= 30]
    assert any("no such device" in line for line in lines)


def test_notice_announces_the_delay_before_a_long_range() -> None:
    def notice(*options: str) -> str | None:
        return range_notice(["dagster", "asset", "materialize", *options])

    line = notice("--partition-range", "2023-01-01...2023-12-31")
    assert line is not None
    assert line.startswith("2023-01-01 to 2023-12-31: before the run starts, Dagster records 365 ")
    assert notice("--partition-range=2023-01-01...2023-12-31") == line
    assert notice("--partition-range", "2023-01-01...2023-01-07") is None
    assert notice("--partition-range", "2023-01-01...yesterday") is None
    assert notice("--partition", "2023-01-01") is None
