"""What several commands do: open the store, run a job, show a release, report errors."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sdoml_core.errors import SdomlError, SettingError
from sdoml_dagster.cli.options import load_settings, use_saved_settings

if TYPE_CHECKING:
    import dagster as dg

    from sdoml_dagster.days import DayRange
    from sdoml_dagster.settings.model import Settings
    from sdoml_dagster.store.store import Store

FAILED, NO_SPACE, INTERRUPTED = 1, 4, 130
"""Exit statuses. 0 is success; 2 is a wrong option or setting, as in click."""


def open_store(given: Mapping[str, str | None], *, saved: bool = False) -> "tuple[Settings, Store]":
    """Load the settings and open the store.

    With ``saved``, the defaults are the settings of the last build.
    """
    from sdoml_dagster.cli.home import own_home
    from sdoml_dagster.store.store import Store

    if saved:
        store = given.get("store") or load_settings({"store": None}).store
        home = own_home(store)
        used = None if home is None else use_saved_settings(home)
        if used is not None:
            click.echo(f"settings   from the last build: {used}")
    settings = load_settings(given)
    return settings, Store(settings.store)


def open_existing(given: Mapping[str, str | None]) -> "tuple[Settings, Store]":
    """Load the last build's settings and open its store, which must not be empty."""
    settings, store = open_store(given, saved=True)
    if not store.folders(""):
        fail(f"no dataset at {store.locate('')}: set --store to the dataset's folder", FAILED)
    return settings, store


def load_definitions() -> "dg.Definitions":
    """Load the code location with the settings of this command."""
    from sdoml_dagster.definitions import defs

    return defs


def code_versions(definitions: "dg.Definitions") -> dict[str, str]:
    """Return the code version of each asset, by the asset's short name."""
    graph = definitions.resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    return {key.path[-1]: graph.get(key).code_version or "" for key in keys}


def run_day_job(
    job: str, op: str, days: str | None, given: Mapping[str, str | None], **config: bool
) -> None:
    """Run a job with one op over a range of days, with the last build's settings."""
    from sdoml_dagster.cli.build import day_config, op_config

    settings, _ = open_existing(given)
    run_job(job, op_config(op, config | day_config(day_range(days))), settings)


def run_job(job: str, config: Mapping[str, Any], settings: "Settings") -> None:
    """Run a job in this process and show its log lines."""
    import dagster as dg

    from sdoml_dagster.cli.home import prepare_home
    from sdoml_dagster.cli.runs import InProcess

    home = prepare_home(settings, workers=1)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        outcome = InProcess(load_definitions(), instance).run_job(job, config, echo_line)
    if outcome.failed:
        raise SystemExit(FAILED)  # the error has already been shown


def echo_line(level: int, text: str) -> None:
    """Show a job's log lines, without Dagster's lines about the run."""
    if level >= logging.INFO and " of run for " not in text:
        click.echo(text, err=level >= logging.WARNING)


def day_range(text: str | None) -> "DayRange":
    """Parse the option ``--days``. Without it, return all days."""
    from sdoml_dagster.days import ALL_DAYS, DayRange
    from sdoml_dagster.release.splits import parse_days

    if text is None:
        return ALL_DAYS
    period = parse_days(text)
    return DayRange(period.first, period.last)


def show_release(store: "Store", name: str) -> None:
    """Show the coverage table of a release, and its paths."""
    from sdoml_dagster.cli.coverage import coverage_table, release_coverage
    from sdoml_dagster.store import layout

    folder = layout.release_folder(name)
    click.echo("")
    for line in coverage_table(release_coverage(store, name)):
        click.echo(line)
    click.echo(f"\nRelease    {store.locate(folder)}")
    click.echo(f"Picture    {store.locate(folder)}/contact_sheet.png")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Show expected errors as one line, and exit with the status for their type."""
    from sdoml_dagster.cli.errors import CommandError

    try:
        yield
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    except CommandError as error:
        fail(str(error), error.exit_status)
    except SdomlError as error:
        fail(str(error), FAILED)
    except KeyboardInterrupt:
        fail("interrupted: run the same command again to resume", INTERRUPTED)


def fail(message: str, exit_status: int) -> NoReturn:
    """Show an error and end with an exit status."""
    click.echo(message, err=True)
    raise SystemExit(exit_status)
