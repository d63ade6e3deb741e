"""Extend Dagster's Celery launcher to detect dead workers."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster_celery.launcher import CeleryRunLauncher
from dagster_celery.tags import DAGSTER_CELERY_TASK_ID_TAG

from sdoml_dagster.celery.app import PULSE_SECONDS, pulse_key


@dataclass(frozen=True, slots=True)
class _Pulse:
    """The last heartbeat of a run, and the time when this machine first saw it."""

    value: bytes
    since: float
    looked: float


class WatchfulCeleryRunLauncher(CeleryRunLauncher):
    """Reports the worker of a run as failed if its heartbeat stops changing.

    The launcher of ``dagster-celery`` gets the state of the task from Celery. The state stays
    ``STARTED`` if the worker is killed, so the run would stay in progress forever. Dagster's run
    monitoring calls :meth:`check_run_worker_health` and marks the run as failed. Dagster's run
    retries then run it again on another worker.

    Only the clock of this machine is used, so the clocks of the workers may differ.

    Parameters
    ----------
    silence_seconds
        Time for which a heartbeat may stay unchanged. Runs continue during a network interruption,
        so this time must be longer than any interruption that they should survive.
    """

    def __init__(self, silence_seconds: int = 120, **options: Any) -> None:
        super().__init__(**options)
        self._silence = silence_seconds
        self._pulses: dict[str, _Pulse] = {}

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the fields of the base class and one additional field."""
        silence = dg.Field(
            dg.IntSource,
            is_required=False,
            default_value=120,
            description=(
                "Seconds without a heartbeat after which a run's worker is considered dead."
            ),
        )
        return {**_fields_of(CeleryRunLauncher), "silence_seconds": silence}

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Check the worker of a run in progress. Run monitoring calls this."""
        task_id = run.tags[DAGSTER_CELERY_TASK_ID_TAG]
        try:
            value: bytes | None = self.celery.backend.get(pulse_key(task_id))
        except Exception:
            # Count silence only while the result backend is readable.
            self._pulses.clear()
            raise
        if value is None:
            return super().check_run_worker_health(run)
        silent = self._silent_for(task_id, value)
        if silent < self._silence:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        host = value.decode(errors="replace").split(" ")[0]
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"no heartbeat from worker {host} for {silent:.0f} s"
        )

    def _silent_for(self, task_id: str, value: bytes) -> float:
        """Return the number of seconds since the last observed change of the heartbeat."""
        now = time.monotonic()
        known = self._pulses.get(task_id)
        # Restart the count if the checks were interrupted, for example by a hung daemon.
        overslept = known is not None and now - known.looked > max(self._silence, PULSE_SECONDS)
        fresh = known is None or overslept or known.value != value
        since = now if known is None or fresh else known.since
        self._pulses[task_id] = _Pulse(value, since, now)
        if len(self._pulses) > 1000:
            recent = now - 10 * self._silence
            self._pulses = {k: p for k, p in self._pulses.items() if p.looked > recent}
        return now - since


def _fields_of(launcher: type[CeleryRunLauncher]) -> Mapping[str, Any]:
    fields = launcher.config_type()
    if not isinstance(fields, Mapping):
        raise TypeError(f"{launcher.__name__}.config_type() is not a mapping")
    return fields
