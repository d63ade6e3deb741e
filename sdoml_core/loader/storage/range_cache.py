"""Cache byte ranges in a local folder of limited size, and verify them when they are read."""

import os
import warnings
from pathlib import Path
from typing import Final

from zlib_ng.zlib_ng import crc32

from sdoml_core.loader.storage.local import write_atomically

DEFAULT_BYTES: Final = 100 << 30
"""Default size limit of a cache, in bytes."""

KEPT_SHARE: Final = 0.9
"""Fraction of the limit that is kept when old ranges are deleted."""

_MAGIC: Final = b"sdml"
_TRAILER: Final = len(_MAGIC) + 4


class RangeCache:
    """Byte ranges that are stored as files in a folder.

    Each file ends with a checksum of its bytes. A damaged file is treated as missing and rewritten.
    If the disk is full or the folder is not writable, nothing more is written. If the ranges exceed
    the limit, the least recently used ranges are deleted.

    Parameters
    ----------
    folder
        Folder for the ranges. It is created when the first range is written.
    limit
        Maximum total size of all ranges in bytes.
    """

    def __init__(self, folder: Path, limit: int = DEFAULT_BYTES):
        self._folder = folder
        self._limit = limit
        self._size: int | None = None
        self._usable = True

    def read(self, name: str, size: int) -> bytes | None:
        """Read a range of ``size`` bytes, or return ``None`` if it is missing or damaged."""
        path = self._folder / name
        try:
            data = path.read_bytes()
            if len(data) != size + _TRAILER or data[size:] != _trailer(data[:size]):
                return None
            os.utime(path)
        except OSError:
            return None
        return data[:size]

    def write(self, name: str, data: bytes) -> None:
        """Store a range if possible, and delete old ranges if the limit is exceeded."""
        if not self._usable:
            return
        try:
            write_atomically(self._folder / name, data + _trailer(data))
            if self._size is None:
                self._size = sum(size for _, size, _ in self._files())
            else:
                self._size += len(data)
            if self._size > self._limit:
                self._evict()
        except OSError as error:
            self._usable = False
            warnings.warn(
                f"cannot write to the cache {self._folder}: {error.strerror or error}; no more "
                "data will be cached",
                stacklevel=2,
            )

    def _evict(self) -> None:
        files = sorted(self._files(), key=lambda file: file[2])
        total = sum(size for _, size, _ in files)
        for path, size, _ in files:
            if total <= KEPT_SHARE * self._limit:
                break
            path.unlink(missing_ok=True)
            total -= size
        self._size = total

    def _files(self) -> list[tuple[Path, int, float]]:
        """List the ranges with their sizes and the times of their last use."""
        found = []
        for folder, _, names in os.walk(self._folder):
            for name in names:
                if name.startswith("."):
                    continue  # skip the index and files that are being written
                path = Path(folder, name)
                try:
                    facts = path.stat()
                except FileNotFoundError:  # another process deleted the file
                    continue
                found.append((path, facts.st_size, facts.st_mtime))
        return found


def _trailer(data: bytes) -> bytes:
    return _MAGIC + crc32(data).to_bytes(4, "little")
