"""Genuine files of the archive that must not be copied into the project.

``GENUINE_SDO_FILES`` names a folder that holds them. Tests that use them are skipped without it.
"""

import os
from pathlib import Path

import pytest

_FOLDER = os.environ.get("GENUINE_SDO_FILES", "")


def genuine(name: str) -> Path:
    """A genuine file; the calling test is skipped if it is not at hand."""
    path = Path(_FOLDER) / name
    if not _FOLDER or not path.is_file():
        pytest.skip(f"GENUINE_SDO_FILES has no {name}")
    return path
