"""The command line of the pipeline: one group with all commands."""

import atexit
import logging
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from sdoml_core import __version__
from sdoml_dagster.cli.commands.build import build
from sdoml_dagster.cli.commands.common import FAILED
from sdoml_dagster.cli.commands.export import export
from sdoml_dagster.cli.commands.live import live
from sdoml_dagster.cli.commands.maintenance import adopt, prune, verify
from sdoml_dagster.cli.commands.release import release
from sdoml_dagster.cli.commands.status import status


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sdoml")
def commands() -> None:
    """Build and manage datasets of full-disk solar images for machine learning.

    Each setting is an option, an environment variable and a key in sdoml.toml. Options take
    precedence.

    \b
    Exit status: 0 done, 1 failed, 2 wrong option or setting, 3 incomplete (run the same command
    again to resume), 4 not enough disk space, 130 interrupted.
    """  # noqa: D301 click reads the backspace


for _command in (build, status, live, release, verify, prune, adopt, export):
    commands.add_command(_command)


def main() -> NoReturn:
    """Run the command line and end the process.

    The teardown of native libraries is skipped, because pyarrow's threads sometimes abort the
    process during teardown, even after a successful build.
    """
    exit_status = FAILED
    try:
        commands(prog_name="sdoml")
    except SystemExit as end:
        exit_status = end.code if isinstance(end.code, int) else int(end.code is not None)
    atexit._run_exitfuncs()  # noqa: SLF001 there is no public function
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # the stream is closed, or is a pipe without a reader
            stream.flush()
    os._exit(exit_status)
