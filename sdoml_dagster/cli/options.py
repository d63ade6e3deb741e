"""Options of every command, generated from the settings model.

An option and its environment variable are one setting: the same name, default and validation.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from sdoml_core.errors import SettingError
from sdoml_dagster.settings.errors import CONFIG, PREFIX
from sdoml_dagster.settings.model import Settings

F = TypeVar("F", bound=Callable[..., Any])

SHORT_NAMES: Final = {"cadence_minutes": "--cadence"}
"""Short names of options that people type often."""

OWN_OPTIONS: Final = {"name"}
"""Settings whose option has a different meaning: `--name` names the release."""

SAVED_SETTINGS: Final = "sdoml.toml"
"""File with the settings of the last build, in a home managed by `sdoml`."""


def settings_options(command: F) -> F:
    """Add one option for each setting to a command, which receives them as ``**given``."""
    for name, field in reversed(Settings.model_fields.items()):
        if name in OWN_OPTIONS:
            continue
        flags = [option_name(name), *([SHORT_NAMES[name]] if name in SHORT_NAMES else [])]
        command = click.option(
            *flags, name, metavar=_metavar(field), help=_help(name, field), default=None
        )(command)
    return command


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


def _metavar(field: FieldInfo) -> str:
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
