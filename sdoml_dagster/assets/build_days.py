"""Build the days of a run. A single failed day does not stop the others."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg

from sdoml_core.errors import SdomlError
from sdoml_dagster.assets.data_versions import DayResults
from sdoml_dagster.assets.options import is_last_attempt
from sdoml_dagster.days import list_days
from sdoml_dagster.failures import failures_explained
from sdoml_dagster.partitions import run_days
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings

MOST_FAILURES = 3
"""Number of consecutive failed days after which a run stops, because the days themselves are
probably not the cause."""


class SomeDaysFailedError(SdomlError):
    """Some days of a range failed, for reasons that a retry cannot fix."""


class SomeDaysMayPassError(SomeDaysFailedError):
    """Some days of a range failed, at least one of them for a temporary reason."""

    may_pass = True


def build_days(
    context: dg.AssetExecutionContext,
    settings: Settings,
    build: Callable[[date, DayResults], None],
) -> dg.MaterializeResult[Any]:
    """Build the days of a run and return the result of the asset.

    Parameters
    ----------
    context
        Dagster context, with the days of the run.
    settings
        Settings of the dataset.
    build
        Builds one day and adds it to the results.

    Raises
    ------
    Failure
        If a day failed. The other days are still built and recorded, unless ``MOST_FAILURES``
        consecutive days fail.
    """
    with failures_explained(last_attempt=is_last_attempt(context, settings)):
        days = list(run_days(context))
        results = DayResults(context, days)
        progress = None
        if len(days) > 1:
            title = f"{context.asset_key.path[-1]} {days[0]} to {days[-1]}"
            progress = Progress(title, len(days), context.log.info, unit="days")
        failed: dict[date, SdomlError] = {}
        not_started: Sequence[date] = ()
        in_a_row = 0
        for number, day in enumerate(days, 1):
            try:
                build(day, results)
                in_a_row = 0
                if progress:
                    progress.step("unchanged" if results.is_unchanged(day) else "ok")
            except SdomlError as error:
                if len(days) == 1:
                    raise
                context.log.error(f"{day}: {error}")  # noqa: TRY400 a traceback adds nothing
                failed[day] = error
                if progress:
                    progress.step("failed")
                in_a_row += 1
                if in_a_row == MOST_FAILURES:
                    not_started = days[number:]
                    break
        if failed:
            raise _summary(days, failed, not_started)
        return results.result()


def _summary(
    days: Sequence[date], failed: Mapping[date, SdomlError], not_started: Sequence[date]
) -> SdomlError:
    first, error = next(iter(failed.items()))
    rest = f"; {list_days(not_started)} not started" if not_started else ""
    kind = SomeDaysMayPassError if any(e.may_pass for e in failed.values()) else SomeDaysFailedError
    return kind(
        f"{len(failed)} of {len(days)} days failed ({list_days(failed)}{rest}). {first}: {error}. "
        "Finished days are recorded; run the others again"
    )
