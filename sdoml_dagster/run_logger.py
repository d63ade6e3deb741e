"""Log runs to the terminal, with only the useful lines.

Dagster prints every event, and prints each failure twice, with thirty lines of traceback. All of
this is also in its database and in the UI. This logger shows only the lines that assets log, failed
checks, and expected failures, each in one line. An unexpected error keeps its traceback.
"""

import logging
import os
import sys
import time
from typing import Any, ClassVar

import dagster as dg
from dagster import DagsterEvent, DagsterEventType

EXPECTED = frozenset({"Failure", "InterruptedRunError"})
"""Expected errors. Only their messages are shown."""
INTERRUPTED = "interrupted: finished frames are kept; run the same days again to continue"
SKIPPED = "Dependencies for step "
"""Start of Dagster's messages for steps that depend on a failed step. They are not shown."""
RETRY = "RetryRequestedFromPolicy"
"""Dagster's wrapper for an error that a retry policy handles. Its cause is the original error."""
DATASET_CHECKS = frozenset({"freshness"})
"""Checks of the whole dataset, which are unrelated to the run that evaluates them."""


class RunLogger(logging.Logger):
    """Rewords the important records of a run and writes them to the terminal.

    Dagster creates the terminal logger of a run from the current logger class, and passes each
    record with its event. Records from other loggers pass through unchanged.
    """

    terminal: ClassVar[logging.Handler]

    def handle(self, record: logging.LogRecord) -> None:
        """Write a record to the terminal if it is important. The event log has all records."""
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
    """Write the logs of runs in this process to its current standard error.

    While a step runs, Dagster redirects standard error to a file. Another process copies this file
    to the terminal, and that process may be stopped before it has copied the last lines.
    """
    try:
        descriptor = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError):  # the process has no standard error
        return
    stream = os.fdopen(descriptor, "w", buffering=1, errors="backslashreplace")
    RunLogger.terminal = logging.StreamHandler(stream)
    formatter = logging.Formatter("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%d %H:%M:%S")
    formatter.converter = time.gmtime
    RunLogger.terminal.setFormatter(formatter)
    logging.setLoggerClass(RunLogger)


def tell(event: DagsterEvent) -> tuple[int, str]:
    """Return the log level and the line for an event."""
    message = event.message or event.event_type_value
    match event.event_type:
        case DagsterEventType.STEP_FAILURE:
            return logging.ERROR, f"{event.step_key}: {_said(event.step_failure_data.error)}"
        case DagsterEventType.STEP_UP_FOR_RETRY:
            retry = event.step_retry_data
            pause = f"retrying in {retry.seconds_to_wait or 0:.0f} s"
            return logging.WARNING, f"{event.step_key}: {_said(retry.error)}; {pause}"
        case DagsterEventType.ASSET_CHECK_EVALUATION:
            found = event.asset_check_evaluation_data
            severe = found.severity == dg.AssetCheckSeverity.ERROR
            quiet = found.passed or found.check_name in DATASET_CHECKS
            level = logging.DEBUG if quiet else logging.ERROR if severe else logging.WARNING
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
    """Return the message of an expected error, even if a retry wraps it. Return others in full."""
    link = error
    while link is not None and link.cls_name == RETRY:
        link = link.cause
    if link is not None and link.cls_name == "DagsterExecutionInterruptedError":
        return INTERRUPTED
    if link is not None and link.cls_name in EXPECTED:
        return str(link.message).partition(": ")[2].strip()
    return "unknown reason" if error is None else str(error.to_string())
