"""Prepare a folder with an SQLite-based Dagster instance that several processes can use."""

from pathlib import Path

import dagster as dg

INSTANCE = Path(__file__).with_name("dagster.yaml")


_RUNS = "max_concurrent_runs: 2"


def prepare_instance(home: Path, *, max_concurrent_runs: int = 2) -> Path:
    """Create the folder with its dagster.yaml and databases, and return the folder.

    The databases are created here, because two processes that create them at the same time can
    damage them.
    """
    home.mkdir(parents=True, exist_ok=True)
    text = INSTANCE.read_text(encoding="utf-8")
    if _RUNS not in text:
        raise AssertionError(f"{INSTANCE} has no {_RUNS!r}")
    text = text.replace(_RUNS, f"max_concurrent_runs: {max_concurrent_runs}")
    (home / "dagster.yaml").write_text(text, encoding="utf-8")
    with dg.DagsterInstance.from_config(str(home)):
        return home
