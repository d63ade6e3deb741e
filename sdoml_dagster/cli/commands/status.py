"""``sdoml status``."""

import click

from sdoml_dagster.cli.commands.common import (
    code_versions,
    load_definitions,
    one_line_errors,
    open_existing,
)
from sdoml_dagster.cli.options import DATASET, FRAMES, SettingsCommand, settings_options


@click.command(cls=SettingsCommand)
@settings_options((*DATASET, *FRAMES, "publication_lag_days", "lookback_days"))
def status(**given: str | None) -> None:
    """Show days by state, coverage, size, constants, and what the schedule would request."""
    from sdoml_dagster.cli.status import status_lines

    with one_line_errors():
        settings, store = open_existing(given)
        for line in status_lines(settings, store, code_versions(load_definitions())):
            click.echo(line)
