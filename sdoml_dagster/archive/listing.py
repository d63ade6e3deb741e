"""What the archive says about its trees: listings of folders, and the newest time."""

import re
from datetime import UTC, datetime

from sdoml_core.errors import OutageError
from sdoml_dagster.archive.client import Page

_NAME = re.compile(
    rb"""href=["']?(?:[^"'>]*/)?([A-Za-z0-9_.]+\.(?:fits|jpg))["'> ]""", re.IGNORECASE
)
_TIME = re.compile(rb"(?<!\d)(\d{8}_\d{6})(?!\d)")


def listed_names(page: Page) -> frozenset[str]:
    """Return the names of the frames that the page of a folder links to.

    Raises
    ------
    OutageError
        If the page links to no frame. The archive has no empty folders, but maintenance pages.
    """
    names = frozenset(name.decode("ascii") for name in _NAME.findall(page.data))
    if not names:
        raise OutageError("a page without frames instead of the listing of a folder")
    return names


def newest_time(page: Page) -> datetime:
    """Return the newest time that a listing or a file ``image_times`` names.

    TAI times are taken at face value, as in file names.

    Raises
    ------
    OutageError
        If it names no time, as maintenance pages do.
    """
    times = []
    for text in _TIME.findall(page.data):
        try:
            times.append(datetime.strptime(text.decode(), "%Y%m%d_%H%M%S").replace(tzinfo=UTC))
        except ValueError:
            continue
    if not times:
        raise OutageError("image_times contains no time; the server may have returned another page")
    return max(times)
