"""With declarative automation, a day is rebuilt only if its pixels change."""

import warnings
from collections.abc import Callable

import dagster as dg
import pytest

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY, FIRST, SECOND, Materialize

THIRD = "2024-03-10"


@pytest.fixture
def requested(
    built: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], dict[str, set[str]]]:
    """A function that evaluates the conditions and returns the requested days by asset."""
    monkeypatch.setenv("SDOML_AUTOMATION", "declarative")
    monkeypatch.setenv("SDOML_END", "2024-03-11")
    defs = build_defs(Settings.load())
    cursors = [None]

    def evaluate() -> dict[str, set[str]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)  # from Dagster's default sensor
            found = dg.evaluate_automation_conditions(defs, instance=built, cursor=cursors[-1])
        cursors.append(found.cursor)
        return {
            name: keys
            for name in ("shards", "release")
            if (keys := found.get_requested_partitions(dg.AssetKey(name)))
        }

    evaluate()
    return evaluate


def test_automation_conditions_are_off_by_default(settings: Settings) -> None:
    graph = build_defs(settings).resolve_asset_graph()
    assert all(
        graph.get(key).automation_condition is None for key in graph.materializable_asset_keys
    )


def test_new_day_is_requested_once(
    requested: Callable[[], dict[str, set[str]]], materialize: Materialize
) -> None:
    assert requested() == {}
    assert materialize(*DAILY[:4], day=THIRD).success
    assert requested() == {"shards": {THIRD}}
    assert requested() == {}


def test_unchanged_pixels_or_new_constants_request_no_day(
    requested: Callable[[], dict[str, set[str]]], materialize: Materialize
) -> None:
    assert materialize(*DAILY[:4], day=FIRST).success
    assert requested() == {}
    assert materialize("normalization_stats").success
    assert requested() == {}


def test_changed_pixels_request_their_day(
    requested: Callable[[], dict[str, set[str]]], materialize: Materialize
) -> None:
    assert materialize("processed_hmi", day=SECOND, hmi_scale=0.85).success
    assert requested() == {"shards": {SECOND}}
