"""How the assets are declared: owner, partitions, retries, and versions of their code."""

from collections.abc import Sequence
from typing import TypedDict

import dagster as dg

from sdoml_dagster.partitions import daily_partitions
from sdoml_dagster.settings.model import Settings

OWNERS = ["team:sdoml-lite"]


class DailyOptions(TypedDict):
    """Arguments of ``dagster.asset`` that all daily assets share."""

    partitions_def: dg.PartitionsDefinition[str]
    backfill_policy: dg.BackfillPolicy
    retry_policy: dg.RetryPolicy
    owners: Sequence[str]


def daily(settings: Settings) -> DailyOptions:
    """What all daily assets are declared with."""
    days = settings.days_per_run
    return {
        "partitions_def": daily_partitions(settings),
        "backfill_policy": dg.BackfillPolicy.multi_run(days)
        if days
        else dg.BackfillPolicy.single_run(),
        "retry_policy": retry_policy(settings),
        "owners": OWNERS,
    }


def retry_policy(settings: Settings) -> dg.RetryPolicy:
    """Try again after 1, 2 and 4 delays, give or take; failures that cannot recover opt out."""
    return dg.RetryPolicy(
        max_retries=settings.run_retries,
        delay=settings.retry_delay,
        backoff=dg.Backoff.EXPONENTIAL,
        jitter=dg.Jitter.PLUS_MINUS,
    )


def code_version(version: str, **recipe: object) -> str:
    """Version of an asset's code together with the settings that decide what it makes.

    So a change of the resolution shows every day made before as stale, for that reason.
    """
    return " ".join([version, *(f"{name}={value}" for name, value in recipe.items())])
