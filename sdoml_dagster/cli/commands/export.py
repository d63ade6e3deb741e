"""``sdoml export``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from sdoml_dagster.cli.commands.common import day_range, one_line_errors, open_store
from sdoml_dagster.cli.options import SettingsCommand, settings_options

F = TypeVar("F", bound=Callable[..., Any])


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


@click.group()
def export() -> None:
    """Write a release in the formats of other projects' loaders, in physical units."""


@export.command("surya", cls=SettingsCommand)
@export_options
@settings_options(("store", "channels", "resolution", "hmi_values", "normalization"))
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
    with one_line_errors():
        settings, store = open_store(given, saved=True)
        write(
            settings,
            store,
            release=name or settings.name,
            days=day_range(days),
            target=target,
            channels=settings.channels,
            say=click.echo,
        )
