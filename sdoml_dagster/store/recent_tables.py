"""A store with a cache of recently read tables, for code that reads neighboring days."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from sdoml_dagster.store.store import Store

T = TypeVar("T")

TABLES = 64
"""Number of cached tables. This is enough for the checks, which read a day and the last week."""


class RecentTables(Store):
    """A store that decodes each small table only once while it is in use.

    Use it only while nothing else writes to the store. Do not change the returned tables, because
    they are shared.

    Parameters
    ----------
    url
        Folder or fsspec URL of the store.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._decoded = functools.lru_cache(maxsize=TABLES)(super().read_as)

    def read_as(self, path: str, decode: Callable[[bytes], T], *, made_by: str) -> T | None:
        """Read and decode a file, or return the cached result."""
        decoded = cast("Callable[..., Any]", self._decoded)
        return cast("T | None", decoded(path, decode, made_by=made_by))
