"""Staleness of days, as Dagster's UI shows it."""

import dagster as dg
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from sdoml_dagster.definitions import build_defs
from sdoml_dagster.settings.model import Settings
from tests.support.runs import DAILY


def stale(instance: dg.DagsterInstance, *days: str, **overrides: object) -> set[str]:
    """Return the assets and days that the UI shows as stale, in the form ``asset@day``."""
    graph = build_defs(Settings.load(**overrides)).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    keys = [(name, day) for name in DAILY for day in days] + [("normalization_stats", None)]
    return {
        f"{name}@{day}" if day else name
        for name, day in keys
        if resolver.get_status(dg.AssetKey(name), day).value == "STALE"
    }
