"""Normalisation constants: one per channel, fitted once to the whole dataset and then frozen."""

from typing import Any

import dagster as dg

from sdoml_dagster import layout
from sdoml_dagster.assets.common import OWNERS, config_day, failures_explained, retry_policy
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings import Settings


class FitConfig(dg.Config):
    """Which processed days the constants are fitted to; all of them by default."""

    first_day: str | None = None
    """ISO date; earlier days are left out."""

    last_day: str | None = None
    """ISO date; later days are left out."""


def build_normalization_asset(settings: Settings) -> dg.AssetsDefinition:
    """``normalization_stats``."""

    @dg.asset(
        deps=["processed_aia", "processed_hmi"],
        description=__doc__,
        group_name="normalization",
        kinds={"json"},
        code_version="1",
        owners=OWNERS,
        retry_policy=retry_policy(settings),
    )
    def normalization_stats(
        context: dg.AssetExecutionContext, config: FitConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        """Fit."""
        from sdoml_dagster.fit import current_normalization, fit_store, freeze

        with failures_explained():
            opened = store.open()
            current = current_normalization(opened)
            # Part of building days, a run must not change the constants of the days before.
            building = context.has_partition_key or "dagster/backfill" in context.run.tags
            if current is None or not building:
                fitted = fit_store(
                    settings,
                    opened,
                    first=config_day(config.first_day, "first_day"),
                    last=config_day(config.last_day, "last_day"),
                )
                current = freeze(opened, fitted.normalization, replace=not building)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(current.version),
            metadata={
                "version": current.version,
                "method": current.method,
                "first_day": current.first_day.isoformat(),
                "last_day": current.last_day.isoformat(),
                "days": current.days,
                "constants": opened.locate(layout.normalization(current.version)),
            },
        )

    return normalization_stats
