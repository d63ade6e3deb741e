"""How a run fails: an error in one line, tried again only where that can help."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from sdoml_core.errors import SdomlError
from sdoml_dagster.run_logger import INTERRUPTED


class InterruptedRunError(dg.DagsterError, KeyboardInterrupt):
    """Ctrl-C, or a run that was terminated.

    Dagster's retry policies take an interrupt for a failure, wait, and try again; errors of its
    own pass them by. As a ``KeyboardInterrupt`` it ends the run.
    """


@contextlib.contextmanager
def failures_explained() -> Iterator[None]:
    """Show an error as its one line; retry it only where its type says that this can help."""
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        raise InterruptedRunError(INTERRUPTED) from None
    except SdomlError as error:
        # The line says all; where it was raised helps nobody who reads it in the UI.
        raise dg.Failure(str(error), allow_retries=error.may_pass) from None
