"""Jobs for the owner of a dataset, beside the assets: ``verify_store`` and ``prune_raw``."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from sdoml_core.errors import MissingInputError
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.ui_metadata import table_metadata


class VerifyConfig(DayRangeConfig):
    """What ``verify_store`` reads, and whether it acts."""

    mark: bool = True
    """Move damaged files to ``damaged/``, so that materializing their day makes them anew."""


class PruneConfig(DayRangeConfig):
    """What ``prune_raw`` drops."""

    last_day: str | None = Field(
        None,
        description="ISO date; later days are left out. By default the last day before the "
        "look-back window of the schedule, which fetches frames that may still appear.",
    )

    dry_run: bool = True
    """Only tell what would go."""


def build_maintenance_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """``verify_store`` and ``prune_raw``."""

    @dg.op(name="verify", description="Reads every file and compares it with what is on record.")
    def verify(context: dg.OpExecutionContext, config: VerifyConfig, store: StoreResource) -> None:
        from sdoml_dagster.maintenance.verify import move_aside, verify_store

        with failures_explained():
            opened = store.open()
            outcome = verify_store(
                opened,
                days=config_days(config),
                threads=settings.threads,
                report=context.log.info,
            )
            if not outcome.files:
                raise MissingInputError(
                    f"no such day in {opened.url}, nor a release: nothing was verified; "
                    f"is SDOML_STORE={settings.store} right?"
                )
            for damage in outcome.damages:
                context.log.error(f"{opened.locate(damage.path)}: {damage.reason}")
            if config.mark:
                move_aside(opened, outcome.damages)
        damages = outcome.damages
        metadata: dict[str, Any] = {
            "files": outcome.files,
            "size_MiB": outcome.bytes / 2**20,
            "damaged": len(damages),
        }
        if damages:
            remedies = sorted({damage.remedy for damage in damages}, key=_in_working_order)
            raise dg.Failure(
                f"{counted(len(damages), 'damaged file')}; materialize " + ", ".join(remedies[:10]),
                metadata=metadata
                | {
                    "files_to_mend": table_metadata(
                        [
                            {
                                "file": damage.path,
                                "reason": damage.reason,
                                "materialize": damage.remedy,
                            }
                            for damage in damages
                        ],
                        dict.fromkeys(("file", "reason", "materialize"), "string"),
                    )
                },
                allow_retries=False,
            )
        context.log.info(
            f"verify_store: {outcome.files} files, {outcome.bytes / 2**20:.0f} MiB read, "
            "nothing damaged"
        )
        context.add_output_metadata(metadata)

    @dg.op(name="prune", description="Drops raw frames of days whose shards verify.")
    def prune(context: dg.OpExecutionContext, config: PruneConfig, store: StoreResource) -> None:
        from sdoml_dagster.maintenance.prune import prune_raw

        window = timedelta(days=settings.publication_lag_days + settings.lookback_days)
        with failures_explained():
            days = config_days(config)
            if days.last is None:
                days = replace(days, last=(datetime.now(UTC) - window).date())
            outcomes = prune_raw(
                store.open(),
                days=days,
                dry_run=config.dry_run,
                report=context.log.info,
            )
        files = sum(outcome.files for outcome in outcomes)
        size = sum(outcome.bytes for outcome in outcomes) / 2**20
        verb = "would go; dry_run: false removes them" if config.dry_run else "removed"
        context.log.info(f"prune_raw: {files} files, {size:.0f} MiB {verb}")
        context.add_output_metadata(
            {
                "dry_run": config.dry_run,
                "files": files,
                "size_MiB": size,
                "days": table_metadata(
                    [
                        {
                            "day": outcome.day.isoformat(),
                            "files": outcome.files,
                            "kept_because": outcome.kept_because or "",
                        }
                        for outcome in outcomes
                    ],
                    {"day": "string", "files": "int", "kept_because": "string"},
                ),
            }
        )

    @dg.job(description="Read the whole store again; mark what is damaged, fail if anything is.")
    def verify_store() -> None:
        verify()

    @dg.job(description="Free the room of raw frames that are in a verified shard. Dry by default.")
    def prune_raw() -> None:
        prune()

    return [verify_store, prune_raw]


def _in_working_order(remedy: str) -> tuple[int, str]:
    """Sorts assets with their days so that each comes after what it is made of."""
    stages = ("raw", "processed", "normalization", "shards", "release")
    return next(n for n, stage in enumerate(stages) if remedy.startswith(stage)), remedy
