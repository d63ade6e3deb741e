"""Dagster's daemon with short intervals between its checks of the queue and of backfills."""

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon import controller
from dagster._daemon.cli import main

if __name__ == "__main__":
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # for backfills; the default is 30
    QueuedRunCoordinator.dequeue_interval_seconds = 1  # the default is 5
    main()
