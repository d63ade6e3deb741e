"""What a run says on a terminal: one line for each thing that its reader can use.

Dagster writes every event there, and a failure twice, each with thirty lines of trace. All of that
is in its database and in the UI. On a terminal stand the lines of the assets, checks that did not
pass, and a failure as the one line that it has; an error that nobody raised on purpose keeps its
trace.
"""

import logging
import os
import sys
import time
from typing import Any, ClassVar

import dagster as dg
from dagster import DagsterEvent, DagsterEventType

EXPECTED = frozenset({"Failure", "InterruptedRunError"})
"""Errors whose message says all."""
INTERRUPTED = "interrupted: what is there is kept, and the same run goes on from it"
SKIPPED = "Dependencies for step "
"""What Dagster says of each step after one that failed: the failure says enough."""
RETRY = "RetryRequestedFromPolicy"
"""What Dagster makes of an error that a retry policy takes care of; its cause is the error."""


class RunLogger(logging.Logger):
    """Writes what is worth a line to the terminal, in our words.

    Dagster makes the logger of a run's terminal of the class that is set for loggers, and hands
    each record over with its event. Records of other loggers pass unchanged.
    """

    terminal: ClassVar[logging.Handler]

    def handle(self, record: logging.LogRecord) -> None:
        """Write a record, or leave it to Dagster's event log."""
        meta = getattr(record, "dagster_meta", None)
        if meta is None:
            super().handle(record)
            return
        event = meta["dagster_event"]
        level, line = tell(event) if event else (record.levelno, meta["orig_message"])
        if level >= logging.INFO and not line.startswith(SKIPPED):
            record.levelno, record.levelname = level, logging.getLevelName(level)
            record.msg = line
            self.terminal.handle(record)


def install() -> None:
    """Let the runs of this process speak to the terminal that it has now.

    While a step runs, Dagster sends standard error to a file, and has a process copy that to the
    terminal, which it may stop before the last lines are copied.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # started without a standard error
        return
    stream = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace")
    RunLogger.terminal = logging.StreamHandler(stream)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime
    RunLogger.terminal.setFormatter(formatter)
    logging.setLoggerClass(RunLogger)


def tell(event: DagsterEvent) -> tuple[int, str]:
    """How important an event is, and its line."""
    message = event.message or event.event_type_value
    match event.event_type:
        case DagsterEventType.STEP_FAILURE:
            return logging.ERROR, f"{event.step_key}: {_said(event.step_failure_data.error)}"
        case DagsterEventType.STEP_UP_FOR_RETRY:
            retry = event.step_retry_data
            pause = f"trying again in {retry.seconds_to_wait or 0:.0f} s"
            return logging.WARNING, f"{event.step_key}: {_said(retry.error)}; {pause}"
        case DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            severe = found.severity == dg.AssetCheckSeverity.ERROR
            level = logging.DEBUG if found.passed else logging.ERROR if severe else logging.WARNING
            where = " ".join(filter(None, [found.asset_key.to_user_string(), found.partition]))
            return level, f"{where}: {found.check_name}: {found.description}"
        case DagsterEventType.RUN_FAILURE:
            failure = event.job_failure_data
            known = failure.first_step_failure_event is not None
            return logging.ERROR, message + ("" if known else f"\n{_said(failure.error)}")
        case DagsterEventType.RUN_START | DagsterEventType.RUN_SUCCESS:
            return logging.INFO, message
        case _:
            return logging.ERROR if event.is_failure else logging.DEBUG, message


def _said(error: Any) -> str:
    """An expected error's own words, also within Dagster's word on retries; all of another."""
    link = error
    while link is not None and link.cls_name == RETRY:
        link = link.cause
    if link is not None and link.cls_name == "DagsterExecutionInterruptedError":
        return INTERRUPTED
    if link is not None and link.cls_name in EXPECTED:
        return str(link.message).partition(": ")[2].strip()
    return "no reason is known" if error is None else str(error.to_string())
