"""Describe errors in settings, each in one line that names the setting."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdoml_core.errors import SettingError

PREFIX = "SDOML_"
CONFIG = f"{PREFIX}CONFIG"
_SERVICE_LINK = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$"
)
"""Variables that Kubernetes sets in each container for a Service such as ``sdoml``."""


_SECRET = {"failure_webhook"}
"""Settings whose value is secret, because anyone who knows the URL can post to it."""


def hide_credentials(text: str) -> str:
    """Replace user names and passwords in a list of addresses with asterisks."""
    return re.sub(
        r"[^\s,]+@", lambda m: f"{m[0].partition('//')[0]}//***@" if "//" in m[0] else "***@", text
    )


def refuse_unknown_variables(known: Iterable[str]) -> None:
    """Reject unknown variables, because a misspelled variable would be silently ignored.

    Raises
    ------
    SettingError
        If a variable with the prefix is not a setting. The message names all such variables.
    """
    names = set(known)
    unknown = [
        variable[len(PREFIX) :].lower()
        for variable in sorted(os.environ)
        if variable.upper().startswith(PREFIX)
        and variable != CONFIG
        and variable[len(PREFIX) :].lower() not in names
        and not _SERVICE_LINK.search(variable)
    ]
    if unknown:
        raise SettingError("; ".join(_unknown(name, names) for name in unknown))


def describe_problem(problem: Mapping[str, Any], known: Iterable[str], file: Path | None) -> str:
    """Format a pydantic error as one line, with the setting and the file, if any, that sets it."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message.replace("Input should be", "must be").partition(", unable to parse")[0]
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        return _unknown(name, known)
    given = problem["input"]
    shown = ",".join(map(str, given)) if isinstance(given, list | tuple) else str(given)
    if isinstance(given, bool):
        shown = shown.lower()  # as in TOML
    shown = "***" if name in _SECRET else hide_credentials(shown)
    variable = f"{PREFIX}{name.upper()}"
    in_environment = any(key.upper() == variable and value for key, value in os.environ.items())
    if file and not in_environment and _has(file, name):
        return f"{file}: {name}={shown}: {message}"
    return f"{variable}={shown}: {message}"


def _has(file: Path, name: str) -> bool:
    return name in tomllib.loads(file.read_text(encoding="utf-8"))


def _unknown(name: str, known: Iterable[str]) -> str:
    if name.startswith(PREFIX.lower()):
        return f"unknown setting {name!r}: names in sdoml.toml have no prefix"
    near = difflib.get_close_matches(name, sorted([*known, "config"]), n=1)
    hint = f"; did you mean {near[0]} ({PREFIX}{near[0].upper()})?" if near else ""
    return f"unknown setting {name!r} ({PREFIX}{name.upper()}){hint}"
