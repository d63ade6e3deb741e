"""Sensor that ends runs whose process was killed. Dagster's run retries then restart them."""

import dagster as dg

from sdoml_dagster.dead_runs import end_dead_runs

INTERVAL = 30
"""Seconds between evaluations. Each evaluation reads the runs in progress once."""


def build_dead_runs_sensor() -> dg.SensorDefinition:
    """Build ``dead_runs_sensor``, which is on by default."""

    @dg.sensor(
        name="dead_runs_sensor",
        minimum_interval_seconds=INTERVAL,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Fails runs on this machine whose process was killed. This frees their queue "
        "slots, and Dagster retries them. Runs on other machines are not changed.",
    )
    def dead_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        return dg.SkipReason(f"ended dead runs: {', '.join(ended)}" if ended else "no dead runs")

    return dead_runs_sensor
