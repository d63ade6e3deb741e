"""Maintenance jobs: ``verify_store``, ``prune_raw`` and ``adopt_store``."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from sdoml_core.errors import MissingInputError
from sdoml_dagster.days import list_days
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.formatting import counted
from sdoml_dagster.jobs.adopt import build_adopt_job
from sdoml_dagster.jobs.launchpad import default_run_config
from sdoml_dagster.jobs.report_damage import report_damage
from sdoml_dagster.partitions import DayRangeConfig, config_days
from sdoml_dagster.resources import StoreResource
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.ui_metadata import column, number, table_metadata


class VerifyConfig(DayRangeConfig):
    """Options of ``verify_store``: the days to read, and what to do with damaged files."""

    mark: bool = Field(
        default=True,
        description=(
            "Move damaged files to `damaged/`, so that materializing the day rebuilds them."
        ),
    )


class PruneConfig(DayRangeConfig):
    """Options of ``prune_raw``."""

    last_day: str | None = Field(
        None,
        description=(
            "ISO date. Later days are left out. Defaults to the last day before the schedule's "
            "look-back window, because the schedule still fetches new frames in that window."
        ),
    )

    dry_run: bool = Field(
        default=True,
        description="Only report the files that would be deleted. If false, delete them.",
    )


def build_maintenance_jobs(settings: Settings) -> list[dg.JobDefinition]:
    """Build ``verify_store``, ``prune_raw`` and ``adopt_store``."""

    @dg.op(name="verify", description="Reads every file and compares it with its record.")
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
                    f"{opened.url} has no release and none of the requested days, so nothing was "
                    "verified. "
                    f"Check SDOML_STORE={settings.store}"
                )
            for damage in outcome.damages:
                context.log.error(f"{opened.locate(damage.path)}: {damage.reason}")
            if config.mark:
                move_aside(opened, outcome.damages)
            report_damage(context.instance, context.run, settings, outcome.damages)
        damages = outcome.damages
        metadata: dict[str, Any] = {
            "files": outcome.files,
            "size_MiB": number(outcome.bytes / 2**20),
            "damaged": len(damages),
        }
        if damages:
            remedies = sorted({damage.remedy for damage in damages}, key=_in_working_order)
            raise dg.Failure(
                f"found {counted(len(damages), 'damaged file')}: materialize "
                + ", ".join(remedies[:10]),
                metadata=metadata
                | {
                    "files_to_rebuild": table_metadata(
                        [
                            {
                                "file": damage.path,
                                "reason": damage.reason,
                                "materialize": damage.remedy,
                            }
                            for damage in damages
                        ],
                        [
                            column("file", "string", "Path of the damaged file."),
                            column("reason", "string", "What is wrong with the file."),
                            column("materialize", "string", "What to materialize again."),
                        ],
                    )
                },
                allow_retries=False,
            )
        context.log.info(
            f"verify_store: {outcome.files} files, {outcome.bytes / 2**20:.0f} MiB read, no damage"
        )
        context.add_output_metadata(metadata)

    @dg.op(
        name="prune",
        description="Deletes the raw frames of days whose shards are complete and intact.",
    )
    def prune(context: dg.OpExecutionContext, config: PruneConfig, store: StoreResource) -> None:
        from sdoml_dagster.maintenance.prune import kept_days, prune_raw

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
        verb = "would be deleted (set dry_run: false)" if config.dry_run else "deleted"
        context.log.info(f"prune_raw: {files} files ({size:.0f} MiB) {verb}")
        context.add_output_metadata(
            {
                "dry_run": config.dry_run,
                "files": files,
                "size_MiB": number(size),
                "kept": table_metadata(
                    [
                        {"days": list_days(days), "number": len(days), "reason": reason}
                        for reason, days in kept_days(outcomes).items()
                    ],
                    [
                        column("days", "string", "Days (UTC) that keep their raw frames."),
                        column("number", "int", "Number of these days."),
                        column("reason", "string", "Why these days keep their raw frames."),
                    ],
                ),
            }
        )

    @dg.job(
        description="Read the whole store, move damaged files aside, and fail if any are found.",
        config=default_run_config("verify", VerifyConfig),
    )
    def verify_store() -> None:
        verify()

    @dg.job(
        description=(
            "Delete raw frames that are packed in intact shards. By default, the job is a dry run."
        ),
        config=default_run_config("prune", PruneConfig),
    )
    def prune_raw() -> None:
        prune()

    return [verify_store, prune_raw, build_adopt_job(settings)]


def _in_working_order(remedy: str) -> tuple[int, str]:
    """Return a sort key that puts each asset after its inputs."""
    stages = ("raw", "processed", "normalization", "shards", "release")
    return next(n for n, stage in enumerate(stages) if remedy.startswith(stage)), remedy
