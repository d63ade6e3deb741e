"""Make Dagster's command line report each user error in one line that says what to do."""

import multiprocessing
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.asset_selection import DagsterInvalidAssetSelectionError

from sdoml_core.errors import SettingError
from sdoml_dagster import run_logger as console
from sdoml_dagster.days import parse_day
from sdoml_dagster.settings.errors import PREFIX
from sdoml_dagster.settings.model import Settings

LONG_RANGE = 60
"""Minimum length of a range, in days, for which `range_notice` explains Dagster's silence."""

_FORM = re.compile(r"[ =]\d{4}-\d\d-\d\d(\.\.\.\d{4}-\d\d-\d\d)?$")


def is_command_line() -> bool:
    """Return whether this process is ``dagster``, ``python -m dagster`` or ``dg``."""
    path = Path(sys.argv[0])
    return path.name in ("dagster", "dg") or (path.name, path.parent.name) == (
        "__main__.py",
        "dagster",
    )


def set_up(settings: Settings | None = None) -> None:
    """Show runs and fatal errors on Dagster's command line as single lines.

    This function does nothing in other processes. Call it without settings if the settings are
    invalid.
    """
    if not is_command_line():
        return
    console.install()
    notice = range_notice(sys.argv)
    if notice and multiprocessing.parent_process() is None:
        sys.stderr.write(f"{notice}\n")

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explain(error, settings)
        if line is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.stderr.write(f"{line}\n")

    sys.excepthook = show


def range_notice(arguments: Sequence[str]) -> str | None:
    """Return a line that explains the silence before a run over a long range, or None."""
    found = re.search(r"--partition-range[ =](\S+)\.\.\.(\S+)", " ".join(arguments))
    first, last = (parse_day(found[1]), parse_day(found[2])) if found else (None, None)
    if first is None or last is None or (days := (last - first).days + 1) < LONG_RANGE:
        return None
    return (
        f"{first} to {last}: before the run starts, Dagster records {days:,} planned days for each "
        "selected asset. This takes minutes for a year, and nothing is printed in the meantime"
    )


def explain(error: BaseException, settings: Settings | None) -> str | None:
    """Return the line that replaces the traceback of a user error, or ``None`` for other errors."""
    text = str(error).removeprefix("Failure condition: ")
    if isinstance(error, SettingError | dg.DagsterInvalidConfigError):
        return text
    if isinstance(error, DagsterInvalidAssetSelectionError):
        return f"{text}: separate asset names with commas, as in --select raw_aia,raw_hmi"
    if isinstance(error, dg.DagsterInvalidSubsetError | CheckError) and "partition" in text:
        return None if settings is None else _about_days(text, settings)
    if isinstance(error, dg.DagsterInvalidSubsetError):
        return f"{text}\n`dagster asset list -m sdoml_dagster.definitions` lists the assets."
    return None


def _about_days(text: str, settings: Settings) -> str | None:
    """Return the line for a Dagster error about partitions, or ``None`` for other errors."""
    if "none of the assets are partitioned" in text:
        return f"{_partition()}: these assets have no days; omit the option"
    if "single_run" in text:
        return (
            f"{_partition()}: a run over a range needs {PREFIX}DAYS_PER_RUN=0. To build a range "
            "without it, use sdoml build --start … --end …"
        )
    if "partition key" in text:
        form = "" if _FORM.search(_partition()) else "write one day, such as 2024-03-08; "
        return f"{_partition()}: {form}{_days(settings)}"
    if "partition range format" in text:
        return f"{_partition()}: write a range as 2024-03-08...2024-03-09; {_days(settings)}"
    if "'--partition' option" in text:
        return f"{text}\nAdd a day, such as --partition {settings.start:%F}: {_days(settings)}"
    return None


def _days(settings: Settings) -> str:
    start = f"{PREFIX}START={settings.start:%F}"
    if settings.end is None:
        return f"the dataset covers the days from {settings.start:%F} to yesterday in UTC ({start})"
    future = ", so far up to yesterday" if settings.end > datetime.now(UTC) else ""
    return (
        f"the dataset covers the days from {settings.start:%F} to {settings.last_day}{future} "
        f"({start}, and {PREFIX}END={settings.end:%FT%R} is not included)"
    )


def _partition() -> str:
    """Return the partition option as it was given on the command line."""
    for at, argument in enumerate(sys.argv):
        if argument.startswith("--partition"):
            return argument if "=" in argument else " ".join(sys.argv[at : at + 2])
    return "no --partition"
