"""``sdoml build``."""

import os
import shlex
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.cli.commands.common import (
    NO_SPACE,
    code_versions,
    day_range,
    fail,
    load_definitions,
    one_line_errors,
    open_store,
    show_release,
)
from sdoml_dagster.cli.commands.release_options import release_options
from sdoml_dagster.cli.options import SettingsCommand, option_name, settings_options

if TYPE_CHECKING:
    import dagster as dg

    from sdoml_dagster.cli.runs import InProcess, Queue
    from sdoml_dagster.days import DayRange
    from sdoml_dagster.release.splits import Splits
    from sdoml_dagster.settings.model import Settings
    from sdoml_dagster.store.store import Store


@click.command(cls=SettingsCommand)
@click.option(
    "--fit",
    metavar="DAYS",
    help="Days to fit the normalization constants to, both ends included, such as 2010..2018. "
    "Default: the training split. Without splits, existing constants are kept; if there are none, "
    "new ones are fitted to all days.",
)
@release_options
@click.option(
    "--workers",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of days to build in parallel, through Dagster's run queue.",
)
@click.option(
    "--submit",
    is_flag=True,
    help="Queue the runs on the deployment at DAGSTER_HOME, and follow their progress.",
)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Make the release even if some days failed, and leave them out.",
)
@click.option("--plan", "plan_only", is_flag=True, help="Print the plan and exit.")
@settings_options()
def build(
    *,
    fit: str | None,
    name: str | None,
    splits: str | None,
    guard: str,
    complete_only: bool,
    days_per_shard: int,
    any_constants: bool,
    workers: int,
    submit: bool,
    keep_going: bool,
    plan_only: bool,
    **given: str | None,
) -> None:
    """Build a dataset: fetch, process, fit, pack and release.

    Finished days are skipped. After Ctrl-C, a kill or an outage, run the same command again to
    resume.

    \b
    sdoml build --start 2024-03-01 --end 2024-03-04 --channels AIA_0171,AIA_0193,HMI_M \\
        --resolution 256 --cadence 60 --name my-sun
    """  # noqa: D301
    from sdoml_dagster.cli import plan as planning
    from sdoml_dagster.cli.build import ReleaseOptions
    from sdoml_dagster.cli.build import build as run_build
    from sdoml_dagster.cli.home import changed_settings, own_home, prepare_home, save_settings
    from sdoml_dagster.release.build import is_current

    with one_line_errors():
        settings, store = open_store(given)
        name = name or settings.name
        ours = own_home(settings.store)
        if submit and ours is not None:
            raise click.UsageError("--submit needs DAGSTER_HOME: set it to the deployment's home")
        if submit and (options := [k for k, value in given.items() if value is not None]):
            raise click.UsageError(
                "--submit uses the deployment's settings: remove "
                f"{option_name(options[0])}, or change this setting there"
            )
        fit_days = _fit_days(fit, splits, guard, any_constants=any_constants)
        release = ReleaseOptions(
            name=name,
            splits=splits,
            guard=guard,
            complete_only=complete_only,
            days_per_shard=days_per_shard,
            any_constants=any_constants or fit is not None,
        )
        definitions = load_definitions()
        made = planning.make_plan(
            settings,
            store,
            code_versions=code_versions(definitions),
            fit_days=fit_days,
            linked=days_per_shard == 1 and not complete_only and "://" not in settings.store,
            workers=workers,
        )
        request = release.request(made.range)
        changes = changed_settings(settings, ours) if ours else ()
        for line in (*planning.describe(made, settings, request.splits), *changes):
            click.echo(line)
        if plan_only:
            raise SystemExit(0 if made.fits else NO_SPACE)
        if not made.has_work and is_current(request, settings=settings, store=store):
            click.echo(f"release {name} is up to date")
            show_release(store, name)
            return
        if not made.fits:
            fail("not enough disk space: free some space, or build fewer days", NO_SPACE)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        home = prepare_home(settings, workers=workers)
        if ours is not None:
            saved = save_settings(settings, home)
            click.echo(f"UI         {_ui_command(home, saved)}")
        with ExitStack() as stack:
            runner = _runner(definitions, stack, submit=submit, workers=workers)
            run_build(
                made,
                runner,
                release,
                names=DatasetNames(settings.name),
                keep_going=keep_going,
                say=click.echo,
            )
        show_release(store, name)
        _show_next_steps(store, name, settings, request.splits)


def _runner(
    definitions: "dg.Definitions", stack: ExitStack, *, submit: bool, workers: int
) -> "InProcess | Queue":
    """Return the object that runs the jobs. Runs on the queue need a daemon."""
    import dagster as dg

    from sdoml_dagster.cli.runs import (
        Daemon,
        InProcess,
        Queue,
        daemon_is_alive,
        end_leftover_runs,
        only_build,
    )

    home = Path(os.environ["DAGSTER_HOME"])
    instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
    if submit:
        if not daemon_is_alive(instance):
            raise click.UsageError(
                f"no daemon is processing the queue of {home}: start dagster-daemon, or build "
                "without --submit"
            )
        return Queue(instance, None)
    stack.enter_context(only_build(home))
    end_leftover_runs(instance)
    if workers > 1:
        if daemon_is_alive(instance):
            raise click.UsageError(
                f"a daemon is already processing the queue of {home}: "
                "use --submit instead of --workers"
            )
        return Queue(instance, stack.enter_context(Daemon(home)))
    return InProcess(definitions, instance)


def _fit_days(
    fit: str | None, splits: str | None, guard: str, *, any_constants: bool
) -> "DayRange | None":
    """Return the days to fit to: the given days, the training split, or None for the default."""
    from sdoml_dagster.days import DayRange
    from sdoml_dagster.release.splits import parse_splits

    if fit is not None:
        return day_range(fit)
    if splits is None or any_constants:
        return None
    parsed = parse_splits(splits, guard=guard)
    kept = parsed.kept_ranges(parsed.train)
    if len(kept) != 1:
        raise click.UsageError(
            f"the split {parsed.train.name} has {len(kept)} separate ranges of days, but constants "
            "are fitted to a single range: choose one with --fit"
        )
    return DayRange(kept[0].first, kept[0].last)


def _ui_command(home: Path, saved: Path) -> str:
    folder, file = shlex.quote(str(home)), shlex.quote(str(saved))
    program = shlex.quote(str(Path(sys.executable).with_name("dagster")))
    return f"DAGSTER_HOME={folder} SDOML_CONFIG={file} {program} dev -m sdoml_dagster.definitions"


def _show_next_steps(store: "Store", name: str, settings: "Settings", splits: "Splits") -> None:
    """Show the commands that view and load a release."""
    from sdoml_dagster.store import layout

    path = store.locate(layout.release_folder(name))
    loaded = f"SDOMLlite({path!r}, channels={list(settings.channels)})"
    if splits:
        loaded += f'.split()["{splits.train.name}"]'
    click.echo("\nView the release")
    click.echo(f"  sdoml view {shlex.quote(path)}")
    click.echo("Load the release")
    click.echo("  from sdoml_core.loader import SDOMLlite")
    click.echo(f"  dataset = {loaded}")
