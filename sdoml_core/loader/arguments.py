"""Checks of arguments."""

from numbers import Integral

from sdoml_core.errors import DatasetError


def check_counts(least: int = 0, /, **counts: int) -> None:
    """Raise an error for invalid numbers of threads, batches or frames.

    Raises
    ------
    DatasetError
        If a value is not a whole number of at least `least`. The message names it.
    """
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < least:
            raise DatasetError(f"{name} must be an integer of at least {least}, not {count!r}")
