"""The run logger's lines, tested without complete runs."""

import logging
import sys
from types import SimpleNamespace

import pytest

from sdoml_dagster import run_logger as console
from sdoml_dagster.run_logger import INTERRUPTED, RunLogger


def test_records_of_other_loggers_are_unchanged() -> None:
    seen: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger = RunLogger("of a library")
    logger.addHandler(Keeper())
    logger.warning("%d things", 3)
    assert seen == ["3 things"]


def test_loggers_are_unchanged_without_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    before = logging.getLoggerClass()
    monkeypatch.setattr(sys, "stderr", None)
    console.install()
    assert logging.getLoggerClass() is before


@pytest.mark.parametrize("within", [False, True])
def test_interrupt_has_a_clear_message_even_during_a_retry(within: bool) -> None:
    error = SimpleNamespace(cls_name="DagsterExecutionInterruptedError", message="", cause=None)
    if within:
        error = SimpleNamespace(cls_name=console.RETRY, message="", cause=error)
    assert console._said(error) == INTERRUPTED


def test_error_without_a_reason_is_reported() -> None:
    assert console._said(None) == "unknown reason"
