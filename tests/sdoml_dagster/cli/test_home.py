"""The settings that a build saves next to its store, and how later builds use them."""

from pathlib import Path

import pytest

from sdoml_dagster.cli.home import changed_settings, save_settings
from sdoml_dagster.settings.model import Settings

FIRST = {"store": "data", "start": "2024-03-08", "channels": "AIA_0171,HMI_M"}


def settings(**changes: str) -> Settings:
    return Settings.load(**(FIRST | changes))


def test_build_with_the_same_settings_reports_no_change(home: Path) -> None:
    assert not list(changed_settings(settings(), home)), "there is no earlier build to differ from"
    save_settings(settings(aia_roots="http://localhost:8300"), home)
    assert not list(changed_settings(settings(aia_roots="http://localhost:8300"), home))


def test_build_reports_each_setting_that_differs_from_the_last_build(home: Path) -> None:
    save_settings(settings(aia_roots="http://user:secret@localhost:8300"), home)
    roots, resolution = changed_settings(settings(resolution="64"), home)
    assert roots.startswith("Changed    --aia-roots from http://localhost:8300 to http")
    assert resolution == "Changed    --resolution from 512 to 64"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)  # the current folder has no settings
    folder = tmp_path / "data.dagster"
    folder.mkdir()
    return folder
