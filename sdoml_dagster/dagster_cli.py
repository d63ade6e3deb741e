"""Dagster's command line as a user meets it: mistakes as one line with its remedy."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import dagster as dg
from dagster._check import CheckError
from dagster._core.definitions.asset_selection import DagsterInvalidAssetSelectionError

from sdoml_core.errors import SettingError
from sdoml_dagster import run_logger as console
from sdoml_dagster.settings.errors import PREFIX
from sdoml_dagster.settings.model import Settings

_FORM = re.compile(r"[ =]\d{4}-\d\d-\d\d(\.\.\.\d{4}-\d\d-\d\d)?$")


def is_command_line() -> bool:
    """Whether this is ``dagster``, ``python -m dagster`` or ``dg``, and not someone's notebook."""
    path = Path(sys.argv[0])
    return path.name in ("dagster", "dg") or (path.name, path.parent.name) == (
        "__main__.py",
        "dagster",
    )


def set_up(settings: Settings | None = None) -> None:
    """Where this is Dagster's command line, let runs and errors that end it speak in lines.

    Without settings, which is where they are wrong, it tells of that.
    """
    if not is_command_line():
        return
    console.install()

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explain(error, settings)
        if line is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.stderr.write(f"{line}\n")

    sys.excepthook = show


def explain(error: BaseException, settings: Settings | None) -> str | None:
    """The line to show instead of a trace; ``None`` for an error that is no user's mistake."""
    text = str(error).removeprefix("Failure condition: ")
    if isinstance(error, SettingError | dg.DagsterInvalidConfigError):
        return text
    if isinstance(error, DagsterInvalidAssetSelectionError):
        return f"{text}: names of assets are separated by commas, as in --select raw_aia,raw_hmi"
    if isinstance(error, dg.DagsterInvalidSubsetError | CheckError) and "partition" in text:
        return None if settings is None else _about_days(text, settings)
    if isinstance(error, dg.DagsterInvalidSubsetError):
        return f"{text}\n`dagster asset list -m sdoml_dagster.definitions` lists them."
    return None


def _about_days(text: str, settings: Settings) -> str | None:
    """The line for the mistakes with days that Dagster knows; ``None`` for errors of its own."""
    if "none of the assets are partitioned" in text:
        return f"{_partition()}: leave it out, for these assets have no days"
    if "single_run" in text:
        return (
            f"{_partition()}: a range in one run needs {PREFIX}DAYS_PER_RUN=0; "
            "sdoml build --start … --end … builds a range without it"
        )
    if "partition key" in text:
        form = "" if _FORM.search(_partition()) else "a day is written 2024-03-08, one at a time; "
        return f"{_partition()}: {form}{_days(settings)}"
    if "partition range format" in text:
        return f"{_partition()}: a range is written 2024-03-08...2024-03-09; {_days(settings)}"
    if "'--partition' option" in text:
        return f"{text}\nGive a day such as --partition {settings.start:%F}: {_days(settings)}"
    return None


def _days(settings: Settings) -> str:
    start = f"{PREFIX}START={settings.start:%F}"
    if settings.end is None:
        return f"the dataset has the days from {settings.start:%F} to yesterday, by UTC ({start})"
    future = ", those that are over" if settings.end > datetime.now(UTC) else ""
    return (
        f"the dataset has the days from {settings.start:%F} to {settings.last_day}{future} "
        f"({start}, and {PREFIX}END={settings.end:%FT%R} is not included)"
    )


def _partition() -> str:
    """The option with days, as it was given."""
    for at, argument in enumerate(sys.argv):
        if argument.startswith("--partition"):
            return argument if "=" in argument else " ".join(sys.argv[at : at + 2])
    return "no --partition"
