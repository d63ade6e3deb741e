"""Executor of all jobs: Dagster's in-process executor, which also records its process.

A day is a chain of short steps. Starting a process for each step would take longer than the work.
"""

import os
from collections.abc import Iterator
from typing import Any, cast

import dagster as dg
from dagster._core.executor.in_process import InProcessExecutor

from sdoml_dagster.runs.dead_runs import end_dead_runs, process_tag

NICENESS = 10
"""Niceness of runs. Runs can use all cores for days. The webserver and the daemon have a niceness
of 0, so the UI stays fast meanwhile."""


class RecordingExecutor(InProcessExecutor):
    """Executes all steps in this process, and records the process so that crashes are detected."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Execute the steps. Dead runs are ended first, because they may occupy the pool."""
        lower_priority()
        instance, run_id = plan_context.instance, plan_context.run_id
        if tag := process_tag(run_id):
            instance.add_run_tags(run_id, tag)
        end_dead_runs(instance)
        yield from super().execute(plan_context, execution_plan)


def lower_priority() -> None:
    """Give this thread, and the threads that it starts, the CPU priority of runs."""
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, max(niceness, NICENESS))


def _create(context: dg.InitExecutorContext) -> RecordingExecutor:
    create = dg.in_process_executor.executor_creation_fn
    if create is None:
        raise AssertionError
    plain = cast("InProcessExecutor", create(context))
    return RecordingExecutor(plain.retries, step_dependency_config=plain.step_dependency_config)


recording_executor = dg.ExecutorDefinition(
    name=dg.in_process_executor.name,
    config_schema=dg.in_process_executor.config_schema.as_field(),
    executor_creation_fn=_create,
    description=dg.in_process_executor.description,
)
"""Accepts the config of Dagster's in-process executor."""
