"""Options for declaring assets: keys, groups, owners, partitions, retries and code versions."""

from collections.abc import Sequence
from typing import TypedDict

import dagster as dg

from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings.model import Settings

OWNERS = ["team:sdoml-lite"]


class CommonOptions(TypedDict):
    """Arguments of ``dagster.asset`` that all assets share."""

    key: Sequence[str]
    deps: Sequence[dg.AssetKey]
    group_name: str
    owners: Sequence[str]
    retry_policy: dg.RetryPolicy


class DailyOptions(CommonOptions):
    """Arguments of ``dagster.asset`` that all daily assets share."""

    partitions_def: dg.PartitionsDefinition[str]
    backfill_policy: dg.BackfillPolicy


def common(settings: Settings, asset: str, *, deps: Sequence[str] = ()) -> CommonOptions:
    """Return the options of an asset. Pass the names without the dataset prefix."""
    names = DatasetNames(settings.name)
    return {
        "key": names.key(asset),
        "deps": [dg.AssetKey(names.key(dep)) for dep in deps],
        "group_name": names.group,
        "owners": OWNERS,
        "retry_policy": dg.RetryPolicy(
            max_retries=settings.run_retries,
            delay=settings.retry_delay,
            backoff=dg.Backoff.EXPONENTIAL,
            jitter=dg.Jitter.PLUS_MINUS,
        ),
    }


def daily(settings: Settings, asset: str, *, deps: Sequence[str] = ()) -> DailyOptions:
    """Return the options of a daily asset."""
    days = settings.days_per_run
    policy = dg.BackfillPolicy.multi_run(days) if days else dg.BackfillPolicy.single_run()
    return {
        **common(settings, asset, deps=deps),
        "partitions_def": daily_partitions(settings),
        "backfill_policy": policy,
    }


def is_last_attempt(context: dg.AssetExecutionContext, settings: Settings) -> bool:
    """Return whether Dagster will not retry the step after this attempt."""
    return int(context.retry_number) >= settings.run_retries


def code_version(version: str, **recipe: object) -> str:
    """Return the code version of an asset, which includes the settings that affect its content.

    For example, after the resolution is changed, Dagster shows all days as stale.
    """
    return " ".join([version, *(f"{name}={value}" for name, value in recipe.items())])
