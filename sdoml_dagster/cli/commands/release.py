"""``sdoml release``."""

import click

from sdoml_core.formats.encoding import ENCODINGS
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.cli.commands.common import (
    day_range,
    one_line_errors,
    open_existing,
    run_job,
    show_release,
)
from sdoml_dagster.cli.commands.release_options import release_options
from sdoml_dagster.cli.options import SettingsCommand, settings_options

_SETTINGS = (
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
"""Settings that the command uses."""


@click.command(cls=SettingsCommand)
@release_options
@click.option(
    "--days",
    metavar="DAYS",
    help="Days to release, such as 2019 or 2010..2018, both ends included. Default: all.",
)
@settings_options(_SETTINGS)
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
    with one_line_errors():
        settings, store = open_existing(given)
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
        run_job(
            "make_release", options.config(day_range(days), DatasetNames(settings.name)), settings
        )
        show_release(store, name)
