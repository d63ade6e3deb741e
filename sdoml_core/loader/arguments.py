"""Argument checks."""

from numbers import Integral

from sdoml_core.errors import DatasetError


def check_counts(least: int = 0, /, **counts: int) -> None:
    """Check that counts, such as the number of threads, are integers and not too small.

    Raises
    ------
    DatasetError
        If a value is not an integer of at least `least`. The message names the argument.
    """
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < least:
            raise DatasetError(f"{name} must be an integer of at least {least}, not {count!r}")
