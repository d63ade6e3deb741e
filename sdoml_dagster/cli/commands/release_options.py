"""The options that shape a release, for ``sdoml build`` and ``sdoml release``."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def release_options(command: F) -> F:
    """Add the options that shape a release."""
    for flag, options in reversed(list(_RELEASE_OPTIONS.items())):
        command = click.option(flag, **options)(command)
    return command


_RELEASE_OPTIONS: Mapping[str, dict[str, Any]] = {
    "--name": {
        "help": "Name of the release and prefix of its shards. Default: SDOML_NAME.",
    },
    "--splits": {
        "metavar": "NAME=DAYS,...",
        "help": "Days of each split, both ends included, such as "
        "train=2010..2018,val=2019,test=2020..2021. The constants must be fitted to the training "
        "split only, unless --any-constants is set.",
    },
    "--guard": {
        "default": "0",
        "metavar": "DAYS",
        "help": "Gap between two splits, such as 2d. These days are removed from the split that "
        "is listed first.",
    },
    "--complete-only": {
        "is_flag": True,
        "help": "Release only samples that have every channel. The Hugging Face datasets "
        "library requires this.",
    },
    "--days-per-shard": {
        "type": click.IntRange(1),
        "default": 1,
        "show_default": True,
        "help": "Days per shard. Values above 1 write new shards instead of hard links.",
    },
    "--any-constants": {
        "is_flag": True,
        "help": "Accept constants that were fitted to days outside the training split.",
    },
}
