"""The executor of all jobs."""

import os
from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from sdoml_dagster.runs.executor import NICENESS, lower_priority, recording_executor


@dg.op
def niceness_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(niceness).result()


@dg.job(executor_def=recording_executor)
def report_niceness() -> None:
    niceness_of_a_new_thread()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_runs_have_a_lower_cpu_priority_than_the_webserver_and_the_daemon() -> None:
    def run(instance: dg.DagsterInstance) -> int:
        job = dg.reconstructable(report_niceness)
        with dg.execute_job(job, instance, raise_on_error=True) as result:
            found: int = result.output_for_node(niceness_of_a_new_thread.name)
            return found

    # On Linux, each thread has its own niceness, so this thread keeps the original one.
    before = niceness()
    with dg.DagsterInstance.local_temp() as instance, ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, instance).result() == max(before, NICENESS)
    assert niceness() == before


def test_niceness_is_never_lowered() -> None:
    raised = NICENESS + 5

    def lower() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, raised)
        lower_priority()
        return niceness()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lower).result() == raised
