"""Convert errors to one-line failures that are retried only if a retry can help."""

import contextlib
from collections.abc import Iterator

import dagster as dg

from sdoml_core.errors import SdomlError
from sdoml_dagster.run_logger import INTERRUPTED


class InterruptedRunError(dg.DagsterError, KeyboardInterrupt):
    """Raised after Ctrl-C, or if the run is terminated.

    Dagster's retry policies treat an interrupt as a failure and retry the step. A
    ``KeyboardInterrupt`` ends the run instead.
    """


@contextlib.contextmanager
def failures_explained(*, last_attempt: bool = False) -> Iterator[None]:
    """Convert errors to one-line failures that Dagster retries if the error type allows it.

    Parameters
    ----------
    last_attempt
        Whether no retries are left. If the failure requested another retry, Dagster would show it
        as "Exceeded max_retries", with the helpful error only as its cause.
    """
    try:
        yield
    except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
        raise InterruptedRunError(INTERRUPTED) from None
    except SdomlError as error:
        # Hide the traceback of an expected error, because it does not help users in the UI.
        retry = error.may_pass and not last_attempt
        raise dg.Failure(str(error), allow_retries=retry) from None
