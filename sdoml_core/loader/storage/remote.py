"""Read byte ranges of remote shards through fsspec, with retries.

The bytes can be cached in a local folder.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, cast

from sdoml_core.errors import DamagedFileError, DatasetError, StoreError
from sdoml_core.loader.storage.local import (
    FileFacts,
    cache_folder,
    concerns,
    is_year,
)
from sdoml_core.loader.storage.range_cache import DEFAULT_BYTES, RangeCache

ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.2  # s; doubles with each attempt
REFUSALS: Final = ("PermissionError", "NoCredentialsError")
"""Names of error types that are not retried."""


class RemoteFiles:
    """Shards at any URL that fsspec supports.

    A connection belongs to one process. After a fork, each worker opens its own connection.
    """

    def __init__(
        self,
        root: str,
        storage_options: dict[str, Any],
        cache_dir: str | os.PathLike[str] | None,
        cache_bytes: int = DEFAULT_BYTES,
    ):
        self.root = root
        self._options = storage_options
        folder = None if cache_dir is None else cache_folder(cache_dir, root)
        self._cache = None if folder is None else RangeCache(folder, cache_bytes)
        self._connected: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": None}

    def list(self) -> list[FileFacts]:
        """List the tar and Parquet files in the folder and in its year folders."""
        found = {}
        for parent in ("", *self._years()):
            for entry in self._retry("ls", f"{self.root}/{parent}".rstrip("/"), detail=True):
                name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
                if entry["type"] != "directory" and concerns(name):
                    name = f"{parent}/{name}".lstrip("/")
                    changed = entry.get("ETag") or entry.get("LastModified") or entry.get("mtime")
                    found[name] = FileFacts(name, entry.get("size") or -1, str(changed))
        return [found[name] for name in sorted(found)]

    def _years(self) -> Sequence[str]:
        entries = self._retry("ls", self.root, detail=True)
        names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted({name for name in names if is_year(name)})

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return bool(self._retry("exists", f"{self.root}/{name}"))

    def open(self, name: str) -> BinaryIO:
        """Open a seekable, unbuffered file."""
        file = self._retry("open", f"{self.root}/{name}", mode="rb", cache_type="none")
        return cast("BinaryIO", file)

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        return bytes(self._retry("cat_file", f"{self.root}/{name}"))

    def version(self, name: str) -> str:
        """Return a string that changes when the file is replaced."""
        entry = self._retry("info", f"{self.root}/{name}")
        changed = entry.get("ETag") or entry.get("LastModified") or entry.get("mtime")
        return f"{changed} {entry.get('size')}"

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Fill buffers in order with the bytes of a file, starting at `start`."""
        wanted = sum(map(len, buffers))
        content = hashlib.sha256(f"{size} {tag}".encode()).hexdigest()[:16]
        kept = f"{name}.{content}/{start}-{wanted}"
        data = self._cache.read(kept, wanted) if self._cache else None
        fresh = data is None
        if data is None:
            data = self._retry("cat_file", f"{self.root}/{name}", start=start, end=start + wanted)
        if len(data) > wanted:
            raise StoreError(f"{self.root} does not support byte-range requests")
        if len(data) < wanted:
            raise DamagedFileError(
                f"{name} in {self.root} is truncated: of {wanted} bytes requested from byte "
                f"{start}, only {len(data)} were received"
            )
        position = 0
        for buffer in buffers:
            buffer[:] = data[position : position + len(buffer)]
            position += len(buffer)
        if self._cache and fresh:
            self._cache.write(kept, data)

    def _retry(self, method: str, path: str, **arguments: Any) -> Any:
        """Call a method of the file system, and retry if a temporary error occurs."""
        for attempt in range(ATTEMPTS):
            try:
                return getattr(self._filesystem(), method)(path, **arguments)
            except FileNotFoundError as error:
                raise StoreError(f"{path} does not exist") from error
            except _network_errors() as error:
                status = getattr(error, "status", None)
                final = type(error).__name__ in REFUSALS or (
                    status is not None and 400 <= status < 500 and status not in {408, 429}
                )
                if final or attempt + 1 == ATTEMPTS:
                    raise StoreError(
                        f"cannot read {path}: {type(error).__name__}: {error}"
                    ) from error
            time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError

    def _filesystem(self) -> Any:
        if self._connected is None or self._connected[0] != os.getpid():
            import fsspec

            protocol = self.root.partition("://")[0]
            # A cached listing would hide new files.
            options = {"use_listings_cache": False} | self._options
            try:
                filesystem = fsspec.filesystem(protocol, **options)
            except (ValueError, ImportError) as error:
                raise DatasetError(f"cannot open {self.root}: {error}") from error
            self._connected = (os.getpid(), filesystem)
        return self._connected[1]


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the error types of network failures. Not all of them are OSErrors."""
    aiohttp, botocore = sys.modules.get("aiohttp"), sys.modules.get("botocore.exceptions")
    return (
        OSError,
        *((aiohttp.ClientError,) if aiohttp else ()),
        *((botocore.BotoCoreError, botocore.ClientError) if botocore else ()),
    )
