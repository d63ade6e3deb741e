"""Build a dataset: ingest → fit → pack → release, with the jobs that the UI shows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from sdoml_dagster.asset_names import NORMALIZATION, RELEASE, DatasetNames
from sdoml_dagster.cli.display import Display, Line, warn
from sdoml_dagster.cli.errors import IncompleteError
from sdoml_dagster.cli.plan import BuildPlan
from sdoml_dagster.cli.runs import Outcome
from sdoml_dagster.days import DayRange
from sdoml_dagster.release.build import ReleaseRequest
from sdoml_dagster.release.splits import NO_SPLITS, parse_splits


class Runner(Protocol):
    """Runs jobs: in this process or on the queue."""

    def run_days(self, job: str, days: Sequence[date], line: Line) -> Outcome:
        """Run a partitioned job for each day."""

    def run_job(self, job: str, config: Mapping[str, Any], line: Line) -> Outcome:
        """Run a job that has no partitions."""


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """Options of the release that a build makes at the end."""

    name: str
    splits: str | None
    guard: str
    complete_only: bool
    days_per_shard: int
    any_constants: bool
    encoding: str | None = None
    """Encoding of the shards. None means the encoding of the daily shards."""

    def request(self, days: DayRange) -> ReleaseRequest:
        """Return the request that the job `make_release` creates from this config."""
        splits = parse_splits(self.splits, guard=self.guard) if self.splits else NO_SPLITS
        return ReleaseRequest(
            name=self.name,
            days_per_shard=self.days_per_shard,
            days=days,
            complete_only=self.complete_only,
            splits=splits,
            any_constants=self.any_constants,
        )

    def config(self, days: DayRange, names: DatasetNames) -> dict[str, Any]:
        """Return the options as run config for the job `make_release`."""
        values: dict[str, Any] = {
            "name": self.name,
            "splits": self.splits,
            "guard": self.guard,
            "complete_only": self.complete_only,
            "days_per_shard": self.days_per_shard,
            "any_constants": self.any_constants,
            "encoding": self.encoding,
            **day_config(days),
        }
        return op_config(op_of(names, RELEASE), {k: v for k, v in values.items() if v is not None})


def build(
    plan: BuildPlan,
    runner: Runner,
    release: ReleaseOptions,
    *,
    names: DatasetNames,
    keep_going: bool,
    say: Callable[[str], None],
) -> None:
    """Run the stages of a plan.

    Raises
    ------
    IncompleteError
        If any run of a stage fails. The message names the first failed run and says what to do.
    """
    _days("ingest", "raw_", plan.unprocessed, plan, runner, keep_going=keep_going)
    if plan.fit_days is not None:
        config = op_config(
            op_of(names, NORMALIZATION),
            day_config(plan.fit_days),
        )
        _job("fit_normalization", config, runner)
        say(f"fitted the normalization constants to the frames{plan.fit_days}")
    _days("build_shards", "shards", plan.unpacked, plan, runner, keep_going=keep_going)
    _job("make_release", release.config(plan.range, names), runner)


def op_of(names: DatasetNames, asset: str) -> str:
    """Return the name of an asset's op, as used in run config."""
    return "__".join(names.key(asset))


def op_config(op: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the run config of a job with one op."""
    return {"ops": {op: {"config": dict(values)}}}


def _days(
    job: str,
    asset: str,
    days: Sequence[date],
    plan: BuildPlan,
    runner: Runner,
    *,
    keep_going: bool,
) -> None:
    if not days:
        return
    display = Display(job, asset, plan.frames_per_day * len(days))
    try:
        outcome = runner.run_days(job, days, display.line)
    finally:
        display.close()
    if outcome.failed and not keep_going:
        first = next(iter(sorted(outcome.failed)))
        raise IncompleteError(
            f"{job}: {len(outcome.failed)} of {len(days)} days failed (first: {first}: "
            f"{outcome.failed[first]}). Run the same command again to resume, or add --keep-going "
            "to make the release without these days"
        )


def _job(job: str, config: Mapping[str, Any], runner: Runner) -> None:
    outcome = runner.run_job(job, config, warn)
    if outcome.failed:
        raise IncompleteError(f"{job} failed: {outcome.failed[job]}")


def day_config(days: DayRange) -> dict[str, str]:
    """Return a range of days as run config."""
    bounds = {"first_day": days.first, "last_day": days.last}
    return {name: day.isoformat() for name, day in bounds.items() if day is not None}
