"""Checks against genuine SDO files, which may not be copied into the project.

``GENUINE_SDO_FILES`` names the folder that holds them; without it nothing here is collected.
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
