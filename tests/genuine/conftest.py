"""Tests with genuine SDO files, which must not be copied into the project.

``GENUINE_SDO_FILES`` names their folder. If it is unset, these tests are not collected.
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
