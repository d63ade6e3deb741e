"""A Dagster instance in a folder, for the demos: SQLite, ready for several processes."""

import shutil
from pathlib import Path

import dagster as dg

INSTANCE = Path(__file__).with_name("dagster.yaml")


def prepare_instance(home: Path) -> Path:
    """Make the folder, so that the user's own instance is left alone; returns it.

    Its databases are made here, because two processes that make them at once spoil them.
    """
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(INSTANCE, home / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(home)):
        return home
