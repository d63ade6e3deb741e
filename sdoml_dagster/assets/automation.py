"""Declarative automation: rebuild shards when their frames change, and make a release once a week.

The look-back schedule runs in both modes, because the ledgers in the store, not Dagster's events,
record which frames may still appear.
"""

import dagster as dg

from sdoml_dagster import asset_names
from sdoml_dagster.asset_names import DatasetNames
from sdoml_dagster.settings.model import Settings

Condition = dg.AutomationCondition[dg.AssetKey | dg.AssetCheckKey]

RELEASE_CRON = "0 12 * * 1"
"""Mondays at noon (UTC)."""


def shards_condition(settings: Settings) -> Condition | None:
    """Materialize a day when the data version of its processed frames changes.

    Dagster's ``eager`` checks only the latest day, and reacts to every new materialization. This
    condition checks every day and reacts only to changed content. New normalization constants
    do not trigger it. They affect all days, so a person should decide when to rebuild.
    """
    if settings.automation != "declarative":
        return None
    normalization = dg.AssetKey(DatasetNames(settings.name).key(asset_names.NORMALIZATION))
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(
        condition.data_version_changed() | condition.will_be_requested()
    ).ignore(dg.AssetSelection.assets(normalization))
    return (
        (condition.newly_missing() | changed).since_last_handled()
        & ~condition.any_deps_missing()
        & ~condition.any_deps_in_progress()
        & ~condition.in_progress()
    ).with_label("processed frames changed")


def release_condition(settings: Settings) -> Condition | None:
    """Make a release once a week.

    This condition does not use ``on_cron``, which would wait until every day of ``shards`` has been
    materialized since the last tick.
    """
    if settings.automation != "declarative":
        return None
    condition = dg.AutomationCondition
    tick: Condition = condition.cron_tick_passed(RELEASE_CRON)
    return (tick.since_last_handled() & ~condition.in_progress()).with_label("weekly release")
