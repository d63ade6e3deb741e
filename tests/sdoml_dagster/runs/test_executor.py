"""The executor of all jobs."""

import os
from concurrent.futures import ThreadPoolExecutor

import dagster as dg
import pytest

from sdoml_dagster.runs import executor


@dg.op
def niceness_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(niceness).result()


@dg.job(executor_def=executor.recording_executor)
def report_niceness() -> None:
    niceness_of_a_new_thread()


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_runs_lower_their_cpu_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(instance: dg.DagsterInstance) -> int:
        job = dg.reconstructable(report_niceness)
        with dg.execute_job(job, instance, raise_on_error=True) as result:
            found: int = result.output_for_node(niceness_of_a_new_thread.name)
            return found

    before = niceness()
    lower = min(before + 2, 19)
    monkeypatch.setattr(executor, "NICENESS", lower)
    # On Linux, each thread has its own niceness, so this thread keeps the original one.
    with dg.DagsterInstance.local_temp() as instance, ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, instance).result() == lower
    assert niceness() == before


def test_runs_keep_an_even_lower_priority() -> None:
    lowest = 19

    def lower() -> int:
        os.setpriority(os.PRIO_PROCESS, 0, lowest)
        executor.lower_priority()
        return niceness()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lower).result() == lowest
