"""The commands. Each one is a thin layer over the jobs and the functions behind the assets."""

import atexit
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sdoml_core import __version__
from sdoml_core.errors import SdomlError, SettingError
from sdoml_core.formats.encoding import ENCODINGS
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.cli.options import (
    DATASET,
    FRAMES,
    SettingsCommand,
    load_settings,
    option_name,
    settings_options,
    use_saved_settings,
)

if TYPE_CHECKING:
    import dagster as dg

    from sdoml_dagster.cli.runs import InProcess, Queue
    from sdoml_dagster.days import DayRange
    from sdoml_dagster.release.splits import Splits
    from sdoml_dagster.settings.model import Settings
    from sdoml_dagster.store.store import Store

F = TypeVar("F", bound=Callable[..., Any])

_STATUS = (*DATASET, *FRAMES, "publication_lag_days", "lookback_days")
_RELEASE = (
    "store",
    "start",
    "end",
    "cadence_minutes",
    "channels",
    "encoding",
    "aia_tolerance_minutes",
    "hmi_scale",
    "member_case",
    "aia_roots",
    "hmi_roots",
    "threads",
)
_PRUNE = ("store", "publication_lag_days", "lookback_days")
_ADOPT = (*DATASET, *FRAMES, "threads", "coverage_warn", "coverage_error")
_EXPORT_SURYA = ("store", "channels", "resolution", "hmi_values", "normalization")
"""Settings that each command uses. `build` uses or saves all of them."""

FAILED, NO_SPACE, INTERRUPTED = 1, 4, 130
"""Exit statuses. 0 is success; 2 is a wrong option or setting, as in click."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sdoml")
def commands() -> None:
    """Build and manage datasets of full-disk solar images for machine learning.

    Each setting is an option, an environment variable and a key in sdoml.toml. Options take
    precedence.

    \b
    Exit status: 0 done, 1 failed, 2 wrong option or setting, 3 incomplete (run the same command
    again to resume), 4 not enough disk space, 130 interrupted.
    """  # noqa: D301 click reads the backspace


def main() -> NoReturn:
    """Run the command line and end the process.

    The teardown of native libraries is skipped, because pyarrow's threads sometimes abort the
    process during teardown, even after a successful build.
    """
    exit_status = FAILED
    try:
        commands(prog_name="sdoml")
    except SystemExit as end:
        exit_status = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()  # noqa: SLF001 there is no public function
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the stream is closed, or is a pipe without a reader
            stream.flush()
    os._exit(exit_status)


def release_options(command: F) -> F:
    """Add the options that shape a release."""
    for flag, options in reversed(list(_RELEASE_OPTIONS.items())):
        command = click.option(flag, **options)(command)
    return command


_RELEASE_OPTIONS: Mapping[str, dict[str, Any]] = {
    "--name": {
        "help": "Name of the release and prefix of its shards. Default: SDOML_NAME.",
    },
    "--splits": {
        "metavar": "NAME=DAYS,...",
        "help": "Days of each split, both ends included, such as "
        "train=2010..2018,val=2019,test=2020..2021. The constants must be fitted to the training "
        "split only, unless --any-constants is set.",
    },
    "--guard": {
        "default": "0",
        "metavar": "DAYS",
        "help": "Gap between two splits, such as 2d. These days are removed from the split that "
        "is listed first.",
    },
    "--complete-only": {
        "is_flag": True,
        "help": "Release only samples that have every channel. The Hugging Face datasets "
        "library requires this.",
    },
    "--days-per-shard": {
        "type": click.IntRange(1),
        "default": 1,
        "show_default": True,
        "help": "Days per shard. Values above 1 write new shards instead of hard links.",
    },
    "--any-constants": {
        "is_flag": True,
        "help": "Accept constants that were fitted to days outside the training split.",
    },
}


@commands.command(cls=SettingsCommand)
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

    with _one_line_errors():
        settings, store = _open(given)
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
        definitions = _definitions()
        made = planning.make_plan(
            settings,
            store,
            code_versions=_code_versions(definitions),
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
            _show_release(store, name)
            return
        if not made.fits:
            _fail("not enough disk space: free some space, or build fewer days", NO_SPACE)
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
        _show_release(store, name)
        _show_next_steps(store, name, settings, request.splits)


@commands.command(cls=SettingsCommand)
@settings_options(_STATUS)
def status(**given: str | None) -> None:
    """Show days by state, coverage, size, constants, and what the schedule would request."""
    from sdoml_dagster.cli.status import status_lines

    with _one_line_errors():
        settings, store = _open_existing(given)
        for line in status_lines(settings, store, _code_versions(_definitions())):
            click.echo(line)


@commands.command(cls=SettingsCommand)
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

    This command does the same work as the schedule live_update_schedule. For each store, use only
    one of the two.
    """
    import dagster as dg

    from sdoml_dagster.cli.home import prepare_home
    from sdoml_dagster.cli.live import LiveUpdates
    from sdoml_dagster.cli.runs import InProcess

    with _one_line_errors():
        settings, store = _open(given, saved=True)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        home = prepare_home(settings, workers=1)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            updates = LiveUpdates(
                settings,
                store,
                instance,
                InProcess(_definitions(), instance),
                say=click.echo,
                line=_echo_line,
            )
            if not once:
                updates.follow(60 * interval)
            good = updates.update()
        if not good:
            raise SystemExit(FAILED)


@commands.command(cls=SettingsCommand)
@release_options
@click.option(
    "--days",
    metavar="DAYS",
    help="Days to release, such as 2019 or 2010..2018, both ends included. Default: all.",
)
@settings_options(_RELEASE)
def release(
    *,
    name: str | None,
    splits: str | None,
    guard: str,
    complete_only: bool,
    days_per_shard: int,
    any_constants: bool,
    days: str | None,
    **given: str | None,
) -> None:
    """Make a release of the packed days: numbered shards, an index, a card and checksums.

    --encoding converts the shards without processing the frames again.
    """
    from sdoml_core.formats.release_files import RELEASE_SPLITS
    from sdoml_dagster.cli.build import ReleaseOptions
    from sdoml_dagster.store import layout

    # This option sets the encoding of the release, not of the daily shards.
    encoding = given.pop("encoding")
    if encoding is not None and encoding not in ENCODINGS:
        raise click.UsageError(
            f"--encoding must be one of {', '.join(ENCODINGS)}, not {encoding!r}"
        )
    with _one_line_errors():
        settings, store = _open_existing(given)
        name = name or settings.name
        options = ReleaseOptions(
            name, splits, guard, complete_only, days_per_shard, any_constants, encoding
        )
        if store.exists(f"{layout.release_folder(name)}/{RELEASE_SPLITS}") and not splits:
            click.echo(
                f"the existing release {name}, which has splits, will be replaced. To keep it, "
                "choose another --name",
                err=True,
            )
        _run_job("make_release", options.config(_days(days), DatasetNames(settings.name)), settings)
        _show_release(store, name)


@commands.command(cls=SettingsCommand)
@click.option(
    "--days", metavar="DAYS", help="Days to verify, such as 2019 or 2010..2018. Default: all."
)
@click.option("--only-report", is_flag=True, help="Leave damaged files where they are.")
@settings_options(("store", "threads"))
def verify(*, days: str | None, only_report: bool, **given: str | None) -> None:
    """Read every file, compare it with its checksum, and move damaged files aside."""
    with _one_line_errors():
        _run_day_job("verify_store", "verify", days, given, mark=not only_report)


@commands.command(cls=SettingsCommand)
@click.option(
    "--days",
    metavar="DAYS",
    help="Days to prune, such as 2019 or 2010..2018. Default: all before the look-back window.",
)
@click.option(
    "--delete",
    is_flag=True,
    help="Delete the files. Otherwise, only report how many would be deleted.",
)
@settings_options(_PRUNE)
def prune(*, days: str | None, delete: bool, **given: str | None) -> None:
    """Delete the raw files of days whose shards are complete and intact."""
    with _one_line_errors():
        _run_day_job("prune_raw", "prune", days, given, dry_run=not delete)
        if not delete:
            click.echo("Nothing was deleted. Add --delete to delete these files.")


@commands.command(cls=SettingsCommand)
@click.option(
    "--days", metavar="DAYS", help="Days to report, such as 2019 or 2010..2018. Default: all."
)
@settings_options(_ADOPT)
def adopt(*, days: str | None, **given: str | None) -> None:
    """Report days in the store that Dagster has no record of, without building them."""
    with _one_line_errors():
        _run_day_job("adopt_store", "adopt", days, given)


def export_options(command: F) -> F:
    """Add the options that every export has."""
    for option in (
        click.option(
            "--days",
            metavar="DAYS",
            help="Days to export, such as 2019 or 2010..2018. Default: all.",
        ),
        click.option("--name", help="Name of the release. Default: SDOML_NAME."),
        click.option(
            "--to",
            "target",
            required=True,
            type=click.Path(file_okay=False, path_type=Path),
            help="Folder to write to.",
        ),
    ):
        command = option(command)
    return command


@commands.group()
def export() -> None:
    """Write a release in the formats of other projects' loaders, in physical units."""


@export.command("surya", cls=SettingsCommand)
@export_options
@settings_options(_EXPORT_SURYA)
def export_surya(*, target: Path, name: str | None, days: str | None, **given: str | None) -> None:
    """Write the index, the NetCDF files and the scalers for Surya's HelioNetCDFDataset."""
    from sdoml_dagster.cli.export import export_for_surya

    _export(export_for_surya, target, name, days, given)


@export.command("zarr", cls=SettingsCommand)
@export_options
@settings_options(("store", "channels", "hmi_scale"))
def export_zarr(*, target: Path, name: str | None, days: str | None, **given: str | None) -> None:
    """Write one zarr array per year and channel, in the layout of SDOML v2, for SDO-FM."""
    from sdoml_dagster.cli.export import export_as_zarr

    _export(export_as_zarr, target, name, days, given)


def _export(
    write: Callable[..., None],
    target: Path,
    name: str | None,
    days: str | None,
    given: Mapping[str, str | None],
) -> None:
    with _one_line_errors():
        settings, store = _open(given, saved=True)
        write(
            settings,
            store,
            release=name or settings.name,
            days=_days(days),
            target=target,
            channels=settings.channels,
            say=click.echo,
        )


def _open(given: Mapping[str, str | None], *, saved: bool = False) -> "tuple[Settings, Store]":
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


def _open_existing(given: Mapping[str, str | None]) -> "tuple[Settings, Store]":
    """Load the last build's settings and open its store, which must not be empty."""
    settings, store = _open(given, saved=True)
    if not store.folders(""):
        _fail(f"no dataset at {store.locate('')}: set --store to the dataset's folder", FAILED)
    return settings, store


def _definitions() -> "dg.Definitions":
    """Load the code location with the settings of this command."""
    from sdoml_dagster.definitions import defs

    return defs


def _code_versions(definitions: "dg.Definitions") -> dict[str, str]:
    graph = definitions.resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    return {key.path[-1]: graph.get(key).code_version or "" for key in keys}


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


def _run_day_job(
    job: str, op: str, days: str | None, given: Mapping[str, str | None], **config: bool
) -> None:
    """Run a job with one op over a range of days, with the last build's settings."""
    from sdoml_dagster.cli.build import day_config, op_config

    settings, _ = _open_existing(given)
    _run_job(job, op_config(op, config | day_config(_days(days))), settings)


def _run_job(job: str, config: Mapping[str, Any], settings: "Settings") -> None:
    """Run a job in this process and show its log lines."""
    import dagster as dg

    from sdoml_dagster.cli.home import prepare_home
    from sdoml_dagster.cli.runs import InProcess

    home = prepare_home(settings, workers=1)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        outcome = InProcess(_definitions(), instance).run_job(job, config, _echo_line)
    if outcome.failed:
        raise SystemExit(FAILED)  # the error has already been shown


def _echo_line(level: int, text: str) -> None:
    """Show a job's log lines, without Dagster's lines about the run."""
    if level >= logging.INFO and " of run for " not in text:
        click.echo(text, err=level >= logging.WARNING)


def _days(text: str | None) -> "DayRange":
    from sdoml_dagster.days import ALL_DAYS, DayRange
    from sdoml_dagster.release.splits import parse_days

    if text is None:
        return ALL_DAYS
    period = parse_days(text)
    return DayRange(period.first, period.last)


def _fit_days(
    fit: str | None, splits: str | None, guard: str, *, any_constants: bool
) -> "DayRange | None":
    """Return the days to fit to: the given days, the training split, or None for the default."""
    from sdoml_dagster.days import DayRange
    from sdoml_dagster.release.splits import parse_splits

    if fit is not None:
        return _days(fit)
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


def _show_release(store: "Store", name: str) -> None:
    """Show the coverage table of a release, and its paths."""
    from sdoml_dagster.cli.status import coverage_table, release_coverage
    from sdoml_dagster.store import layout

    folder = layout.release_folder(name)
    click.echo("")
    for line in coverage_table(release_coverage(store, name)):
        click.echo(line)
    click.echo(f"\nRelease    {store.locate(folder)}")
    click.echo(f"Picture    {store.locate(folder)}/contact_sheet.png")


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


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Show expected errors as one line, and exit with the status for their type."""
    from sdoml_dagster.cli.errors import CommandError

    try:
        yield
    except SettingError as error:
        raise click.UsageError(str(error)) from None
    except CommandError as error:
        _fail(str(error), error.exit_status)
    except SdomlError as error:
        _fail(str(error), FAILED)
    except KeyboardInterrupt:
        _fail("interrupted: run the same command again to resume", INTERRUPTED)


def _fail(message: str, exit_status: int) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(exit_status)
