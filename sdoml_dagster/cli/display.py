"""Show the progress of a build, based on the log lines of its runs."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TextIO

import click

from sdoml_dagster.progress import duration_text, read_progress

QUIET_SECONDS = 15.0
"""Seconds between progress lines if the output is not a terminal."""


Line = Callable[[int, str], None]
"""Function that receives the level and text of one log line."""


def own_stderr() -> TextIO:
    """Return this process's standard error, even while Dagster redirects it during a step."""
    try:
        return os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1, errors="backslashreplace")
    except (AttributeError, OSError):  # standard error is captured or closed
        return sys.stderr


def warn(level: int, text: str) -> None:
    """Show only warnings and errors."""
    if level >= logging.WARNING:
        click.echo(text, err=True)


@dataclass
class Display:
    """A line that shows the progress of a stage.

    Parameters
    ----------
    title
        Name of the stage.
    asset
        Prefix of the assets whose frames are counted.
    frames
        Number of frames in the whole stage.
    """

    title: str
    asset: str
    frames: int
    stream: TextIO = field(default_factory=own_stderr)
    _tasks: dict[str, tuple[int, float]] = field(default_factory=dict)
    _started: float = field(default_factory=monotonic)
    _shown: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def line(self, level: int, text: str) -> None:
        """Process one log line of a run."""
        with self._lock:
            found = read_progress(text)
            if level >= logging.WARNING:
                self._clear()
                click.echo(text, file=self.stream)
            if found is not None and found.title.startswith(self.asset):
                self._tasks[found.title] = (found.done, found.received_mib)
                self._show()

    def close(self) -> None:
        """Show the final state and end the line."""
        with self._lock:
            self._show(final=True)

    def text(self, *, final: bool = False) -> str:
        """Return the progress line."""
        spent = max(monotonic() - self._started, 1e-3)
        done = min(sum(frames for frames, _ in self._tasks.values()), self.frames)
        received = sum(mib for _, mib in self._tasks.values())
        # Omit the total at the end, because it is too high if frames are missing.
        total = "" if final else f"/{self.frames:,}"
        parts = [f"{self.title}: {done:,}{total} frames"]
        if received:
            parts.append(f"{received:,.1f} MiB ({received / spent:.1f} MiB/s)")
        parts.append(f"{done / spent:,.1f} frames/s")
        if 0 < done < self.frames and not final:
            parts.append(f"{duration_text(spent / done * (self.frames - done))} left")
        else:
            parts.append(duration_text(spent))
        return ", ".join(parts)

    def _show(self, *, final: bool = False) -> None:
        if self.stream.isatty():
            end = "\n" if final else ""
            click.echo(f"\r\x1b[K{self.text(final=final)}{end}", file=self.stream, nl=False)
        elif final or monotonic() - self._shown >= QUIET_SECONDS:
            self._shown = monotonic()
            click.echo(self.text(final=final), file=self.stream)

    def _clear(self) -> None:
        if self.stream.isatty():
            click.echo("\r\x1b[K", file=self.stream, nl=False)


class LineHandler(logging.Handler):
    """Passes log records of runs in this process to a function."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        self._line(record.levelno, record.getMessage())
