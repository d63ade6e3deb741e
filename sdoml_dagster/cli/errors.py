"""Errors that end a command, with their exit status."""

from typing import ClassVar


class CommandError(Exception):
    """Ends a command with a one-line message."""

    exit_status: ClassVar[int] = 1


class IncompleteError(CommandError):
    """Some runs failed. Running the same command again resumes them."""

    exit_status = 3


class DaemonError(CommandError):
    """The run queue cannot be used."""
