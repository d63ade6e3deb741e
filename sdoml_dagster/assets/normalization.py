"""Normalization constants: one per channel, fitted once to the whole dataset and then frozen.

Started by itself (job `fit_normalization`), it fits them anew to the sketches of all processed
days, or of those from `first_day` to `last_day` of its run config. As a part of building days (a
partition, a backfill) it keeps those in force, and fits only where there are none yet. Shards
name the version that they used; a new version makes all of them stale.

Volume: some kilobytes of JSON; a fit over 6,000 days reads 1 GB of sketches.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_dagster.assets.options import OWNERS, code_version, retry_policy
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import table_metadata

if TYPE_CHECKING:
    from sdoml_core.normalization.constants import Normalization
    from sdoml_dagster.pipeline.fit import Fitted

_PICTURE = "histograms"


class FitConfig(DayRangeConfig):
    """Which processed days the constants are fitted to; all of them by default."""


def build_normalization_asset(settings: Settings) -> dg.AssetsDefinition:
    """``normalization_stats``."""

    @dg.asset(
        deps=["processed_aia", "processed_hmi"],
        description=__doc__,
        group_name="normalization",
        kinds={"json"},
        code_version=code_version("1", method=settings.normalization),
        owners=OWNERS,
        # What `dagster asset materialize --partition-range` requires of every selected asset.
        backfill_policy=dg.BackfillPolicy.single_run(),
        retry_policy=retry_policy(settings),
    )
    def normalization_stats(
        context: dg.AssetExecutionContext, config: FitConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        """Fit."""
        from sdoml_dagster.pipeline.fit import fit_store
        from sdoml_dagster.pipeline.frozen_constants import (
            current_normalization,
            freeze,
            refuse_unasked_fit,
        )

        fitted = None
        with failures_explained():
            opened = store.open()
            former = current = current_normalization(opened)
            # Part of building days, a run must not change the constants of the days before.
            building = (
                context.has_partition_key
                or context.has_partition_key_range
                or "dagster/backfill" in context.run.tags
            )
            if current is None and building:
                current = refuse_unasked_fit(opened)
            if current is None or not building:
                fitted = fit_store(
                    settings,
                    opened,
                    days=config_days(config),
                )
                current = freeze(opened, fitted.normalization, replace=not building)
        if not fitted:
            context.log.info(
                f"normalization_stats: using constants {current.version}, fitted to "
                f"{counted(current.days, 'day')} from {current.first_day} to {current.last_day}"
            )
        if fitted:
            context.log.info(
                f"normalization_stats: {current.version}, {current.method}, fitted to "
                f"{counted(current.days, 'day')} from {current.first_day} to {current.last_day}"
            )
            if former and former.version != current.version:
                stale = len(layout.shard_files(opened))
                context.log.warning(
                    f"in place of {former.version}: run build_shards again for the "
                    f"{counted(stale, 'day')} that have a shard"
                )
        left_out = [day.isoformat() for day in fitted.left_out] if fitted else []
        if left_out:
            context.log.warning(
                f"{counted(len(left_out), 'day')} left out, processed in part: the first is "
                f"{left_out[0]}; run ingest for it again"
            )
        picture = _histograms(fitted) if fitted else _last_picture(context, current.version)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(current.version),
            metadata={
                **picture,
                "channels": _channels(current),
                "version": current.version,
                "method": current.method,
                "resolution": current.resolution,
                "first_day": current.first_day.isoformat(),
                "last_day": current.last_day.isoformat(),
                "days": current.days,
                "refitted": fitted is not None,
                "left_out_days": left_out,
                "constants": opened.locate(layout.normalization(current.version)),
            },
        )

    return normalization_stats


def _histograms(fitted: "Fitted") -> Mapping[str, Any]:
    """What was fitted to, as a picture."""
    from sdoml_dagster.previews import histograms, inline_markdown

    image = histograms(fitted.normalization, fitted.sketches)
    return {_PICTURE: dg.MetadataValue.md(inline_markdown(image, "Histograms of all pixels"))}


def _last_picture(context: dg.AssetExecutionContext, version: str) -> Mapping[str, Any]:
    """The picture of the fit that is kept, without reading all its sketches again."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    last = event.asset_materialization if event else None
    if last is None or (last.tags or {}).get("dagster/data_version") != version:
        return {}
    return {_PICTURE: last.metadata[_PICTURE]} if _PICTURE in last.metadata else {}


def _channels(normalization: "Normalization") -> dg.TableMetadataValue:
    """Constants and statistics, a row per channel."""
    numbers = ("constant", "minimum", "mean", "std", "maximum", "saturated")
    rows = [
        {
            "channel": name,
            "transform": channel.transform,
            **{number: getattr(channel, number) for number in numbers},
            "median": (channel.quantiles or {}).get("0.5"),
            "pixels": channel.pixels,
        }
        for name, channel in normalization.channels.items()
    ]
    types = {"channel": "string", "transform": "string", "pixels": "int"}
    return table_metadata(rows, dict.fromkeys((*numbers, "median"), "float") | types)
