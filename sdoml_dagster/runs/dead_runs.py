"""Find and end runs whose process was killed, for example by a crash of the machine.

Such a run stays STARTED in Dagster forever. It occupies a place in the queue and a slot in the
pool, and its days look as if they were in progress. To detect this, each run records the identity
of its process when it starts. Runs on other machines and in other containers are left alone.
"""

import dagster as dg

from sdoml_dagster.runs.process_identity import ProcessIdentity, has_ended, this_process

PROCESS_TAG = ".dagster/sdoml_process"
"""Run tag that holds the run ID and the identity of the process. Hidden in the UI."""

_WITH_PROCESS = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


ANY_RUN = "-"
"""Placeholder for the run ID until the run has one. Only for runs that are never retried."""


def process_tag(run_id: str) -> dict[str, str]:
    """Return the tag of a run that this process executes."""
    identity = this_process()
    return {} if identity is None else {PROCESS_TAG: f"{run_id} {identity}"}


def is_dead(run: dg.DagsterRun) -> bool:
    """Return whether Dagster shows a run as in progress although its process has ended."""
    if run.status not in _WITH_PROCESS:
        return False
    # A retried run has the tags of the original run until it records its own process.
    run_id, _, text = run.tags.get(PROCESS_TAG, "").partition(" ")
    identity = ProcessIdentity.parse(text)
    return run_id in (run.run_id, ANY_RUN) and identity is not None and has_ended(identity)


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End dead runs, and free their slots in the pool. Returns their IDs.

    The runs are marked as failed, so that Dagster retries them, unless they were being canceled.
    """
    ended = []
    for found in instance.get_runs(dg.RunsFilter(statuses=_WITH_PROCESS)):
        if not is_dead(found):
            continue
        # The run may have ended normally in the meantime.
        run = instance.get_run_by_id(found.run_id)
        if run is None or not is_dead(run):
            continue
        if run.status == dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, message="the process of this run has ended")
        else:
            instance.report_run_failed(
                run, message="The process of this run was killed. Its finished frames are kept."
            )
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
        ended.append(run.run_id)
    return ended
