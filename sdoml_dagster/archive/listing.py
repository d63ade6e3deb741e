"""Parse the archive's folder listings and its ``image_times`` files."""

import re
from datetime import UTC, datetime

from sdoml_core.errors import OutageError
from sdoml_dagster.archive.client import Page

_NAME = re.compile(
    rb"""href=["']?(?:[^"'>]*/)?([A-Za-z0-9_.]+\.(?:fits|jpg))["'> ]""", re.IGNORECASE
)
_TIME = re.compile(rb"(?<!\d)(\d{8}_\d{6})(?!\d)")


def listed_names(page: Page) -> frozenset[str]:
    """Return the names of the frames that a folder listing links to.

    Raises
    ------
    OutageError
        If the page does not link to any frames. The archive has no empty folders, so the page must
        be a maintenance page.
    """
    names = frozenset(name.decode("ascii") for name in _NAME.findall(page.data))
    if not names:
        raise OutageError(
            "the folder listing links to no frames; the server may have returned a different page"
        )
    return names


def newest_time(page: Page) -> datetime:
    """Return the newest time in a listing or in an ``image_times`` file.

    Times are returned as written. Like HMI file names, HMI times are in TAI.

    Raises
    ------
    OutageError
        If the page contains no time. It is then probably a maintenance page.
    """
    times = []
    for text in _TIME.findall(page.data):
        try:
            times.append(datetime.strptime(text.decode(), "%Y%m%d_%H%M%S").replace(tzinfo=UTC))
        except ValueError:
            continue
    if not times:
        raise OutageError(
            "image_times contains no time; the server may have returned a different page"
        )
    return max(times)
