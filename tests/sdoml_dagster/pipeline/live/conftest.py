"""Deployments that follow a simulated near-real-time archive."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime

import pytest

from sdoml_dagster.settings.errors import PREFIX
from sdoml_dagster.settings.model import Settings
from sdoml_demo.clock import Clock
from sdoml_demo.live_tree import LivePlan
from sdoml_demo.server import Archive
from tests.support.live import START, LiveDeployment

Follow = Callable[..., LiveDeployment]


@pytest.fixture
def follow(frame_cache, tmp_path, monkeypatch) -> Iterator[Follow]:
    """A function that creates deployments, each with its own archive and clock."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # the folder has no sdoml.toml
    with ExitStack() as stack:

        def make(
            plan: LivePlan | None = None, *, start: datetime = START, **overrides: object
        ) -> LiveDeployment:
            archive = stack.enter_context(
                Archive(
                    cache=frame_cache,
                    absences=False,
                    clock=Clock(start, speed=0),
                    live=plan or LivePlan(),
                )
            )
            number = len(list(tmp_path.iterdir()))
            (tmp_path / f"store{number}").mkdir()
            settings = Settings.load(
                **{
                    "store": str(tmp_path / f"store{number}"),
                    "aia_roots": (archive.aia_root,),
                    "hmi_roots": (archive.hmi_root,),
                    "channels": ("AIA_0171", "AIA_0193", "HMI_M"),
                    "resolution": 64,
                    "threads": 2,
                    "live_hours": 2,
                }
                | overrides
            )
            return LiveDeployment(settings, archive)

        yield make
