"""Dagster's daemon with short intervals between its looks at the queue and at backfills."""

from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._daemon import controller
from dagster._daemon.cli import main

if __name__ == "__main__":
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = 2  # instead of 30, for backfills
    QueuedRunCoordinator.dequeue_interval_seconds = 1  # instead of 5
    main()
