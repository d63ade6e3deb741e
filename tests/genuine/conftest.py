"""Tests with genuine SDO files, which must not be copied into the project.

The variable ``GENUINE_SDO_FILES`` gives the folder of these files. If it is unset, pytest does not
collect these tests.
"""

import os
from pathlib import Path

import pytest

FOLDER = os.environ.get("GENUINE_SDO_FILES", "")
collect_ignore_glob = [] if FOLDER else ["test_*.py"]


@pytest.fixture
def genuine() -> Path:
    """The folder of genuine files."""
    return Path(FOLDER)
