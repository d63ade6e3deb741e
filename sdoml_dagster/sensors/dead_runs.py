"""Sensor that ends runs whose process was killed. Dagster's run retries then restart them."""

from datetime import UTC, datetime

import dagster as dg

from sdoml_dagster.runs.dead_runs import end_dead_runs
from sdoml_dagster.runs.missed_retries import request_missed_retries

INTERVAL = 30
"""Seconds between evaluations. Each evaluation reads the runs in progress once."""


def build_dead_runs_sensor() -> dg.SensorDefinition:
    """Build ``dead_runs_sensor``, which is on by default."""

    @dg.sensor(
        name="dead_runs_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs on this machine as failed if their process was killed, so that "
        "Dagster frees their queue slots and retries them. Runs on other machines are not changed. "
        "Also requests retries that Dagster missed.",
    )
    def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        missed = request_missed_retries(context.instance, now=datetime.now(UTC))
        done = [f"ended dead runs: {', '.join(ended)}"] if ended else []
        done += [f"requested retries that Dagster missed: {', '.join(missed)}"] if missed else []
        return dg.SkipReason("; ".join(done) or "no dead runs")

    return dead_runs_sensor
