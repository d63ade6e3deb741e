"""The Dagster instance of a command: the user's own, or one next to the store."""

import json
import os
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import click

from sdoml_dagster.archive.address import public
from sdoml_dagster.cli.options import SAVED_SETTINGS, option_name
from sdoml_dagster.settings.model import Settings


def home_beside(store: str) -> Path:
    """Return the folder for Dagster's records of a store: ``./data.dagster`` for ``./data``."""
    if "://" in store:
        return Path(f"{store.rstrip('/').rpartition('/')[2]}.dagster").absolute()
    folder = Path(store).absolute()
    return folder.with_name(f"{folder.name}.dagster")


def own_home(store: str) -> Path | None:
    """Return the home that `sdoml` manages for this store, or None if DAGSTER_HOME is set."""
    return None if os.environ.get("DAGSTER_HOME") else home_beside(store)


def prepare_home(settings: Settings, *, workers: int) -> Path:
    """Create the home if the user has none, and set it as the home of this process."""
    from sdoml_dagster.instance.home import prepare_instance

    home = own_home(settings.store)
    if home is None:
        named = Path(os.environ["DAGSTER_HOME"])
        if not named.is_dir():
            raise click.UsageError(
                f"DAGSTER_HOME={named} is not a folder: create it, or unset the variable"
            )
        return named
    prepare_instance(home, max_concurrent_runs=max(2, workers))
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def save_settings(settings: Settings, home: Path) -> Path:
    """Write the settings of a build to its home, for the UI and for later commands."""
    values: dict[str, object] = {}
    for name in sorted(settings.model_fields_set | {"store"}):
        value = getattr(settings, name)
        if name == "store" and "://" not in settings.store:
            value = str(Path(settings.store).absolute())
        if value is not None:
            values[name] = value.isoformat() if isinstance(value, datetime) else value
    path = home / SAVED_SETTINGS
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def changed_settings(settings: Settings, home: Path) -> Iterator[str]:
    """Describe each setting that differs from the last build."""
    saved = home / SAVED_SETTINGS
    if not saved.is_file():
        return
    former = tomllib.loads(saved.read_text(encoding="utf-8"))
    for name in sorted((former.keys() | settings.model_fields_set) - {"store"}):
        field = Settings.model_fields.get(name)
        if field is None:
            continue
        before = former.get(name, field.get_default(call_default_factory=True))
        now, then = _plain(getattr(settings, name)), _plain(before)
        if now != then:
            yield f"Changed    {option_name(name)} from {then} to {now}"


def _plain(value: object) -> str:
    """Format a setting, so that a value from TOML and the parsed value have the same text."""
    if isinstance(value, tuple | list):
        return ",".join(str(public(item)) for item in value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


@contextmanager
def open_instance(home: Path) -> "Iterator[object]":
    """Open the Dagster instance of a home."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance
