"""Options of every command, generated from the settings model.

An option and its environment variable are one setting: they share the name, the default and the
validation.
"""

import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from sdoml_core.errors import SettingError
from sdoml_dagster.settings.errors import CONFIG, PREFIX
from sdoml_dagster.settings.model import Settings

F = TypeVar("F", bound=Callable[..., Any])

SHORT_NAMES: Final = {"cadence_minutes": "--cadence"}
"""Short names of options that users type often."""

OWN_OPTIONS: Final = {"name"}
"""Settings whose option has a different meaning: `--name` names the release."""

DATASET: Final = (
    "store",
    "start",
    "end",
    "cadence_minutes",
    "channels",
    "resolution",
    "dtype",
    "encoding",
)
FRAMES: Final = (
    "aia_tolerance_minutes",
    "hmi_scale",
    "hmi_values",
    "max_missing_fraction",
    "degradation_table",
    "normalization",
    "member_case",
)
ARCHIVE: Final = (
    "aia_roots",
    "hmi_roots",
    "max_connections",
    "connect_timeout",
    "read_timeout",
    "attempts",
    "missing_recheck_hours",
)
SCHEDULE: Final = (
    "publication_lag_days",
    "lookback_days",
    "schedule_hour",
    "automation",
    "live_hours",
)
RUNS: Final = (
    "threads",
    "days_per_run",
    "run_retries",
    "retry_delay",
    "coverage_warn",
    "coverage_error",
    "failure_webhook",
    "event_log_days",
)
SECTIONS: Final = {
    "Dataset": DATASET,
    "Frames and pixels": FRAMES,
    "Archive and downloads": ARCHIVE,
    "Schedules": SCHEDULE,
    "Runs and checks": RUNS,
}
"""Sections of the settings in the help text of a command."""

SAVED_SETTINGS: Final = "sdoml.toml"
"""File with the settings of the last build, in a home managed by `sdoml`."""


class SettingsCommand(click.Command):
    """A command whose help text lists its own options first, and then the settings by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of options."""
        lines = {
            option.name: line
            for option in self.get_params(ctx)
            if (line := option.get_help_record(ctx)) is not None
        }
        settings = {
            title: [lines.pop(name) for name in names if name in lines]
            for title, names in SECTIONS.items()
        }
        for title, section in {"Options": list(lines.values()), **settings}.items():
            if section:
                with formatter.section(title):
                    formatter.write_dl(section)


def settings_options(shown: Collection[str] | None = None) -> Callable[[F], F]:
    """Add one option for each setting to a command, which receives them as ``**given``.

    Parameters
    ----------
    shown
        Settings that the command uses. None means all settings. The help text does not list the
        others, but the command accepts them, so that several commands can be run with the same
        options.
    """

    def add(command: F) -> F:
        for name, field in reversed(Settings.model_fields.items()):
            if name in OWN_OPTIONS:
                continue
            flags = [option_name(name), *([SHORT_NAMES[name]] if name in SHORT_NAMES else [])]
            command = click.option(
                *flags,
                name,
                metavar=_metavar(name, field),
                help=_help(name, field),
                default=None,
                hidden=shown is not None and name not in shown,
            )(command)
        return command

    return add


def option_name(setting: str) -> str:
    """Return the option of a setting: ``--cadence-minutes`` for ``cadence_minutes``."""
    return f"--{setting.replace('_', '-')}"


def load_settings(given: Mapping[str, str | None]) -> Settings:
    """Load settings from options, the environment and files, in this order of precedence.

    The options are put into the environment, so that the code location and all child processes
    load the same settings.

    Raises
    ------
    click.UsageError
        If a setting is wrong. The message names the option or variable.
    """
    options = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings.load(**options)
    except SettingError as error:
        text = str(error)
        for name in options:
            text = text.replace(f"{PREFIX}{name.upper()}=", f"{option_name(name)} ")
        raise click.UsageError(text) from None
    os.environ.update({f"{PREFIX}{name.upper()}": value for name, value in options.items()})
    return settings


def use_saved_settings(home: Path) -> Path | None:
    """Read the settings of the last build from its home, unless the user chose another file."""
    saved = home / SAVED_SETTINGS
    if os.environ.get(CONFIG) or Path(SAVED_SETTINGS).exists() or not saved.is_file():
        return None
    os.environ[CONFIG] = str(saved)
    return saved


def _metavar(name: str, field: FieldInfo) -> str:
    unit = name.rpartition("_")[2]
    if unit in {"minutes", "hours", "days"}:
        return unit.upper()
    kind = field.annotation
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    text = str(getattr(kind, "__name__", kind))
    for part, shown in (
        ("tuple", "NAME,NAME"),
        ("datetime", "DATE"),
        ("float", "NUMBER"),
        ("int", "INTEGER"),
    ):
        if part in text or part in str(kind):
            return shown
    return "TEXT"


def _help(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=False)
    shown = "number of cores" if field.default_factory else _text(default)
    text = (field.description or "").replace("`", "")
    return f"{text}  [default: {shown}; env: {PREFIX}{name.upper()}]"


def _text(value: object) -> str:
    if value is None:
        return "unset"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if hasattr(value, "date"):
        return f"{value:%Y-%m-%d}"
    return str(value)
