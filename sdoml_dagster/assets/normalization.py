"""Normalization constants: one per channel, fitted once to the whole dataset, and then frozen.

A separate run (job `fit_normalization`) fits them to the sketches of all processed days, or of the
days from `first_day` to `last_day` in its config. A run that builds days (a partition or a
backfill) keeps the current constants, and fits constants only if none exist yet. Each shard records
the version of the constants with which it was packed. A new version makes all shards stale.

Volume: a few kilobytes of JSON. A fit to 6,000 days reads 1 GB of sketches.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.assets.options import code_version, common, is_last_attempt
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.ui_metadata import column, path, table_metadata

if TYPE_CHECKING:
    from sdoml_core.normalization.constants import Normalization
    from sdoml_dagster.pipeline.fit import Fitted

_PICTURE = "histograms"

CHANNEL_COLUMNS = [
    column("channel", "string", "Name of the channel."),
    column("constant", "float", "Pixel value c that is mapped to 1, in units of processed frames."),
    column("transform", "string", "sqrt: y = √(min(x, c)/c); linear: y = x/c."),
    column("saturated", "float", "Fraction of the pixels that exceed c and are mapped to 1."),
    column("minimum", "float", "Smallest of the pixel values used in the fit."),
    column("median", "float", "Median of the pixel values used in the fit."),
    column("mean", "float", "Mean of the pixel values used in the fit."),
    column("std", "float", "Standard deviation of the pixel values used in the fit."),
    column("maximum", "float", "Largest of the pixel values used in the fit."),
    column("pixels", "int", "Number of pixels used in the fit."),
]


class FitConfig(DayRangeConfig):
    """Days to which the constants are fitted. By default, all processed days are used."""


def normalization_code_version(settings: Settings) -> str:
    """Return the code version of ``normalization_stats``."""
    return code_version("1", method=settings.normalization)


def build_normalization_asset(settings: Settings) -> dg.AssetsDefinition:
    """Build the asset ``normalization_stats``."""
    processed = [asset_names.processed(instrument) for instrument in settings.instruments]

    @dg.asset(
        description=__doc__,
        kinds={"json"},
        code_version=normalization_code_version(settings),
        # `dagster asset materialize --partition-range` requires this for every selected asset.
        backfill_policy=dg.BackfillPolicy.single_run(),
        **common(settings, asset_names.NORMALIZATION, deps=processed),
    )
    def normalization_stats(
        context: dg.AssetExecutionContext, config: FitConfig, store: StoreResource
    ) -> dg.MaterializeResult[Any]:
        from sdoml_dagster.pipeline.choose_constants import choose_constants

        with failures_explained(last_attempt=is_last_attempt(context, settings)):
            opened = store.open()
            chosen = choose_constants(
                settings,
                opened,
                days=config_days(config),
                part_of_building=context.has_partition_key
                or context.has_partition_key_range
                or "dagster/backfill" in context.run.tags,
            )
            current, fitted = chosen.current, chosen.fitted
            if chosen.former and chosen.former.version != current.version:
                stale = len(layout.shard_files(opened))
                context.log.warning(
                    f"The new constants replace version {chosen.former.version}. Run build_shards "
                    f"again for the {counted(stale, 'day')} with a shard"
                )
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
        left_out = [day.isoformat() for day in fitted.left_out] if fitted else []
        if left_out:
            context.log.warning(
                f"Left out {counted(len(left_out), 'day')} because of incomplete processing "
                f"(first: {left_out[0]}). Run ingest again to complete the processing"
            )
        picture = _histograms(fitted) if fitted else _last_picture(context, current.version)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(current.version),
            metadata={
                **picture,
                **constants_metadata(current),
                "refitted": fitted is not None,
                "left_out_days": left_out,
                "constants": path(opened.locate(layout.normalization(current.version))),
            },
        )

    return normalization_stats


def constants_metadata(current: "Normalization") -> dict[str, Any]:
    """Return the metadata that describes the constants."""
    return {
        "channels": _channels(current),
        "version": current.version,
        "method": current.method,
        "resolution": current.resolution,
        "first_day": current.first_day.isoformat(),
        "last_day": current.last_day.isoformat(),
        "days": current.days,
    }


def _histograms(fitted: "Fitted") -> Mapping[str, Any]:
    """Draw histograms of the pixel values used in the fit."""
    from sdoml_dagster.previews import histograms, inline_markdown

    image = histograms(fitted.normalization, fitted.sketches)
    return {_PICTURE: dg.MetadataValue.md(inline_markdown(image, "Histograms of all pixels"))}


def _last_picture(context: dg.AssetExecutionContext, version: str) -> Mapping[str, Any]:
    """Return the picture of the last fit. Redrawing it would require reading all sketches."""
    event = context.instance.get_latest_materialization_event(context.asset_key)
    last = event.asset_materialization if event else None
    if last is None or (last.tags or {}).get("dagster/data_version") != version:
        return {}
    return {_PICTURE: last.metadata[_PICTURE]} if _PICTURE in last.metadata else {}


def _channels(normalization: "Normalization") -> dg.TableMetadataValue:
    """Return a table of constants and statistics, one row per channel."""
    plain = [c.name for c in CHANNEL_COLUMNS if c.name not in {"channel", "median"}]
    rows = [
        {
            "channel": name,
            "median": (channel.quantiles or {}).get("0.5"),
            **{column: getattr(channel, column) for column in plain},
        }
        for name, channel in normalization.channels.items()
    ]
    return table_metadata(rows, CHANNEL_COLUMNS)
