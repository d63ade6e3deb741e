"""Days are queued in windows to keep Dagster's UI fast."""

import json
import uuid
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from sdoml_dagster.cli import runs
from sdoml_dagster.cli.runs import Queue


@pytest.mark.parametrize("underway", [0, 1, 3])
def test_days_are_queued_in_windows(monkeypatch: pytest.MonkeyPatch, underway: int) -> None:
    days = [date(2024, 3, 1) + timedelta(days=number) for number in range(7)]
    windows: list[list[str]] = []

    def queue(self: Queue, command: str, job: str, *options: str) -> None:
        """Queue runs as `dagster job backfill` does. The run of one day fails immediately."""
        window = options[options.index("--partitions") + 1].split(",")
        tags = json.loads(options[options.index("--tags") + 1])
        windows.append(window)
        for day in window:
            failed = day == "2024-03-04"
            status = dg.DagsterRunStatus.FAILURE if failed else dg.DagsterRunStatus.SUCCESS
            start(job, day, status, tags)

    def start(job: str, day: str, status: dg.DagsterRunStatus, tags: dict[str, str]) -> Any:
        tags = tags | {"dagster/partition": day}
        return create_run_for_test(instance, job, str(uuid.uuid4()), status=status, tags=tags)

    monkeypatch.setattr(runs, "WINDOW", 3)
    monkeypatch.setattr(runs, "POLL_SECONDS", 0)
    monkeypatch.setattr(Queue, "_dagster", queue)
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = [
            start("ingest", f"{day}", dg.DagsterRunStatus.STARTED, {}) for day in days[:underway]
        ]
        show = Queue._show_lines

        def show_and_end(self: Queue, *arguments: Any) -> list[str]:
            for run in waiting:
                instance.report_run_canceled(run)
            waiting.clear()
            return show(self, *arguments)

        monkeypatch.setattr(Queue, "_show_lines", show_and_end)
        outcome = Queue(instance, None).run_days("ingest", days, lambda *_: None)
    assert [len(window) for window in windows] == {0: [3, 3, 1], 1: [2, 3, 1], 3: [3, 1]}[underway]
    assert [day for window in windows for day in window] == [f"{day}" for day in days[underway:]]
    assert "2024-03-04" in outcome.failed
    assert len(outcome.failed) == 1 + underway
