"""Folders of synthetic shards that tests share."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.synthetic_shards import FIRST, write_day, write_release


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of six hours each, as a release."""
    return write_release(tmp_path_factory.mktemp("release"), 3)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same days as in a store: one folder per year, and an index beside each shard."""
    folder = tmp_path_factory.mktemp("store") / "shards"
    for number in range(3):
        day = FIRST + timedelta(days=number)
        write_day(folder / f"{day:%Y}", day)
    return folder
