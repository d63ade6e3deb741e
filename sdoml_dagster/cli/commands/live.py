"""``sdoml live``."""

import signal

import click

from sdoml_dagster.cli.commands.common import (
    FAILED,
    echo_line,
    load_definitions,
    one_line_errors,
    open_store,
)
from sdoml_dagster.cli.options import SettingsCommand, settings_options


@click.command(cls=SettingsCommand)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.5),
    default=3.0,
    show_default=True,
    metavar="MINUTES",
    help="Time between two checks of the archive.",
)
@click.option(
    "--once", is_flag=True, help="Check the archive once and exit, for example in a cron job."
)
@settings_options()
def live(*, interval: float, once: bool, **given: str | None) -> None:
    """Keep the near-real-time window up to date until Ctrl-C, without a daemon.

    This command does the same work as the live_update_schedule schedule. Use only one of them per
    store.
    """
    import dagster as dg

    from sdoml_dagster.cli.home import prepare_home
    from sdoml_dagster.cli.live import LiveUpdates
    from sdoml_dagster.cli.runs import InProcess

    with one_line_errors():
        settings, store = open_store(given, saved=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        home = prepare_home(settings, workers=1)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            updates = LiveUpdates(
                settings,
                store,
                instance,
                InProcess(load_definitions(), instance),
                say=click.echo,
                line=echo_line,
            )
            if not once:
                updates.follow(60 * interval)
            good = updates.update()
        if not good:
            raise SystemExit(FAILED)
