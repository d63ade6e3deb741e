"""``sdoml verify``, ``sdoml prune`` and ``sdoml adopt``."""

import click

from sdoml_dagster.cli.commands.common import one_line_errors, run_day_job
from sdoml_dagster.cli.options import DATASET, FRAMES, SettingsCommand, settings_options


@click.command(cls=SettingsCommand)
@click.option(
    "--days", metavar="DAYS", help="Days to verify, such as 2019 or 2010..2018. Default: all."
)
@click.option("--only-report", is_flag=True, help="Leave damaged files where they are.")
@settings_options(("store", "threads"))
def verify(*, days: str | None, only_report: bool, **given: str | None) -> None:
    """Read every file, compare it with its checksum, and move damaged files aside."""
    with one_line_errors():
        run_day_job("verify_store", "verify", days, given, mark=not only_report)


@click.command(cls=SettingsCommand)
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
@settings_options(("store", "publication_lag_days", "lookback_days"))
def prune(*, days: str | None, delete: bool, **given: str | None) -> None:
    """Delete the raw files of days whose shards are complete and intact."""
    with one_line_errors():
        run_day_job("prune_raw", "prune", days, given, dry_run=not delete)
        if not delete:
            click.echo("Nothing was deleted. Add --delete to delete these files.")


@click.command(cls=SettingsCommand)
@click.option(
    "--days", metavar="DAYS", help="Days to report, such as 2019 or 2010..2018. Default: all."
)
@settings_options((*DATASET, *FRAMES, "threads", "coverage_warn", "coverage_error"))
def adopt(*, days: str | None, **given: str | None) -> None:
    """Report days in the store that Dagster has no record of, without building them."""
    with one_line_errors():
        run_day_job("adopt_store", "adopt", days, given)
