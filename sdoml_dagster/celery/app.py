"""The Celery application for worker machines. Each task is one Dagster run.

Start a worker with ``celery -A sdoml_dagster.celery.app worker -P solo``. The pool must be solo,
because a run starts child processes, which Celery's prefork workers cannot do. Celery's environment
variables ``CELERY_BROKER_URL`` and ``CELERY_RESULT_BACKEND`` set the broker and the result backend.

While a task runs, a thread in the worker writes a heartbeat to the result backend. Celery reports
the task of a dead worker as ``STARTED`` forever, so :mod:`sdoml_dagster.celery.launcher` uses the
heartbeat to detect dead workers.
"""

import itertools
import socket
import threading
from collections.abc import Mapping
from typing import Any

import dagster as dg
from celery import Celery  # type: ignore[import-untyped]
from celery.exceptions import OperationalError  # type: ignore[import-untyped]
from celery.signals import task_postrun, task_prerun  # type: ignore[import-untyped]
from celery.utils.log import get_logger  # type: ignore[import-untyped]
from dagster._grpc.types import ExecuteRunArgs, ResumeRunArgs
from dagster._serdes import unpack_value
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task
from redis.exceptions import RedisError

PULSE_SECONDS = 5.0
"""Seconds between two heartbeats of a running task."""

WORKER_TAG = "sdoml/worker"
"""Run tag that names the machine that executes the run."""

_log = get_logger(__name__)


def pulse_key(task_id: str) -> str:
    """Return the key of a task's heartbeat in the result backend."""
    return f"sdoml-pulse-{task_id}"


app: Celery = make_app(  # type: ignore[no-untyped-call]
    {
        "config_source": {
            # A run is a long task. Take one at a time, and put a task back in the queue if it never
            # began.
            "task_acks_late": True,
            "worker_prefetch_multiplier": 1,
            "worker_concurrency": 1,
            # After this time, Redis gives an unacknowledged task to a second worker. If the run has
            # already started, Dagster ignores the second task. Otherwise, it starts the run.
            "broker_transport_options": {
                "visibility_timeout": 1800,
                "socket_timeout": 20,
                "socket_connect_timeout": 10,
                "socket_keepalive": True,
            },
            # A worker survives any broker outage, even one that begins during a task.
            "result_backend_always_retry": True,
            "broker_connection_retry_on_startup": True,
            "broker_connection_max_retries": None,
            "redis_socket_timeout": 10,
            "redis_socket_connect_timeout": 10,
            "worker_hijack_root_logger": False,
        }
    }
)

execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)


class _Heart(threading.Thread):
    """Writes the heartbeat of one task until the task ends."""

    def __init__(self, task_id: str) -> None:
        super().__init__(name="pulse", daemon=True)
        self._task_id = task_id
        self._ended = threading.Event()

    def run(self) -> None:
        host = socket.gethostname()
        for beat in itertools.count():
            try:
                app.backend.set(pulse_key(self._task_id), f"{host} {beat}")
            except (OperationalError, RedisError, OSError) as error:
                _log.warning("cannot write the heartbeat of task %s: %s", self._task_id, error)
            if self._ended.wait(PULSE_SECONDS):
                return

    def end(self) -> None:
        """Stop without waiting. A heartbeat after the end of the task is harmless."""
        self._ended.set()


_hearts: dict[str, _Heart] = {}


@task_prerun.connect  # type: ignore[untyped-decorator]
def _begin_pulse(task_id: str, kwargs: Mapping[str, Any], **_: Any) -> None:
    heart = _hearts[task_id] = _Heart(task_id)
    heart.start()
    (packed,) = kwargs.values()
    run_id = unpack_value(packed, (ExecuteRunArgs, ResumeRunArgs)).run_id
    with dg.DagsterInstance.get() as instance:
        instance.add_run_tags(run_id, {WORKER_TAG: socket.gethostname()})


@task_postrun.connect  # type: ignore[untyped-decorator]
def _end_pulse(task_id: str, **_: Any) -> None:
    _hearts.pop(task_id).end()
