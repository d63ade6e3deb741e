"""Mistakes on Dagster's command line as one line with its remedy, without fifty lines of trace."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import dagster as dg
from dagster_shared.check import CheckError

from sdoml_core.errors import SettingError
from sdoml_dagster.settings import PREFIX, Settings

Hook = Callable[[type[BaseException], BaseException, TracebackType | None], None]


def explain(error: BaseException, settings: Settings | None = None) -> str | None:
    """The line to show instead of a trace; ``None`` for an error that is no user's mistake."""
    text = str(error)
    if isinstance(error, SettingError | dg.DagsterInvalidConfigError):
        return text
    if "partition" in text and isinstance(error, dg.DagsterInvalidSubsetError | CheckError):
        return f"{text.removeprefix('Failure condition: ')}\n{_days(settings)}"
    if isinstance(error, dg.DagsterInvalidSubsetError):
        return f"{text}\n`dagster asset list -m sdoml_dagster.definitions` lists them."
    return None


def install(settings: Settings | None = None) -> None:
    """Use these lines for errors that end the process, where it is Dagster's command line."""
    if settings is not None and not is_command_line():
        return

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explain(error, settings)
        if line is None:
            sys.__excepthook__(kind, error, trace)
        else:
            sys.stderr.write(f"{line}\n")

    sys.excepthook = show


def _days(settings: Settings | None) -> str:
    if settings is None:
        return "Partitions are days such as 2024-03-08."
    until = f"to {settings.last_day} ({PREFIX}END)" if settings.last_day else "to yesterday, by UTC"
    return (
        f"Partitions are days such as 2024-03-08, from {settings.start:%Y-%m-%d} "
        f"({PREFIX}START) {until}; give one with --partition. A range in one run needs "
        f"{PREFIX}DAYS_PER_RUN=0."
    )


def is_command_line() -> bool:
    """Whether this is ``dagster`` or ``python -m dagster``, and not someone's notebook."""
    path = Path(sys.argv[0])
    return path.name == "dagster" or (path.name, path.parent.name) == ("__main__.py", "dagster")
