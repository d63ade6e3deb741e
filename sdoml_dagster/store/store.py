"""A folder or bucket with all data, accessed through fsspec.

This is the only module that reads and writes the dataset's files. Paths are relative and use
``/``. Writes are atomic: a local file is written under a temporary name and renamed
(:mod:`sdoml_dagster.store.local_files`). A remote file is written in one upload, which is multipart
if the file is large and is aborted if it fails.

The folder is not flushed after a rename. A power failure may undo the last renames, but a name
never appears without its bytes, and every step inspects the files themselves when it runs again.

This module handles only bytes and names. ``sdoml_core`` defines the content of files, and
:mod:`sdoml_dagster.store.layout` defines their paths.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from sdoml_core.errors import DamagedFileError, SdomlError, SettingError, StoreError, StorePathError
from sdoml_dagster.store import local_files
from sdoml_dagster.store.local_files import TEMPORARY

T = TypeVar("T")

_CHUNK = 1 << 20
_UNUSABLE_PATH = {
    errno.EACCES,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EROFS,
}
"""Operating system errors for an unusable path, which retrying does not fix."""


class Store:
    """Reads, publishes and lists files below one root.

    Parameters
    ----------
    url
        A folder, or a URL that fsspec supports, such as ``s3://bucket/prefix``. The S3 endpoint
        and credentials come from the usual AWS variables.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # slow to import, and the definitions do not need a store

        self.url = url
        self._remote = "://" in url and not url.startswith("file://")
        self._errors = _errors_of(url)
        # A cached listing would hide files that another worker has since published.
        options = {"use_listings_cache": False} if self._remote else {}
        try:
            fs, root = fsspec.url_to_fs(url, **options)
        except (ValueError, ImportError) as error:
            raise SettingError(f"SDOML_STORE={url}: {error}") from error
        self.fs: fsspec.AbstractFileSystem = fs
        self.root = str(root).rstrip("/")

    def locate(self, path: str) -> str:
        """Return the full path or URL of a file, for messages."""
        root = self.url.rstrip("/") if self._remote else self.root
        return f"{root}/{path}" if path else root

    def local_path(self, path: str) -> Path | None:
        """Return the path of a file on this machine, or ``None`` if the store is remote."""
        return None if self._remote else Path(self.root, path)

    def exists(self, path: str) -> bool:
        """Return whether a file exists."""
        # Do not use `isfile`, which returns False if access is denied.
        with self._explained("look up", path):
            try:
                return bool(self.fs.info(self._full(path))["type"] == "file")
            except (FileNotFoundError, NotADirectoryError) as error:
                return self._absent(error)

    def read(self, path: str) -> bytes:
        """Read a whole file. Raises ``FileNotFoundError`` if it does not exist."""
        return self._read(path, 0, None)

    def read_if_exists(self, path: str) -> bytes | None:
        """Read a whole file, or return ``None`` if it does not exist."""
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Read the bytes from ``start`` up to ``end``, or fewer if the file is shorter."""
        return self._read(path, start, end)

    def read_as(self, path: str, decode: Callable[[bytes], T], *, made_by: str) -> T | None:
        """Read and decode a file, or return ``None`` if it does not exist.

        Raises
        ------
        DamagedFileError
            If the file cannot be decoded. The message names the file and the asset to materialize.
        """
        data = self.read_if_exists(path)
        return None if data is None else self.decode(path, data, decode, made_by=made_by)

    def decode(self, path: str, data: bytes, decode: Callable[[bytes], T], *, made_by: str) -> T:
        """Decode the bytes of a file. Raises the same error as `read_as`."""
        try:
            return decode(data)
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{self.locate(path)}: {error}; materialize {made_by} again"
            ) from error

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """Open a file to read it in parts."""
        with self._explained("read", path), self.fs.open(self._full(path), "rb") as handle:
            yield cast("BinaryIO", handle)

    def modified(self, path: str) -> datetime:
        """Return the time at which a file was last published (UTC)."""
        with self._explained("look up", path):
            return cast("datetime", self.fs.modified(self._full(path)))

    def unchanged_since(self, path: str, marker: str, *, size: int) -> bool:
        """Return whether a file has the given size and is older than the marker.

        If so, the file is still the one that the marker (such as a ledger) describes. The file is
        not read, so damage on disk is not detected; `verify_store` detects it. Always returns False
        in an object store, where copying a file changes its time.
        """
        file, written = self.local_path(path), self.local_path(marker)
        if file is None or written is None:
            return False
        with self._explained("look up", path):
            try:
                found = file.stat()
                return found.st_size == size and found.st_mtime_ns < written.stat().st_mtime_ns
            except FileNotFoundError:
                return False

    def suspect(self, path: str) -> None:
        """Set the modification time of a damaged file to now, so that the next run reads it."""
        file = self.local_path(path)
        if file is not None:
            with contextlib.suppress(OSError):  # the file may be read-only or deleted
                os.utime(file)

    def sha256_and_size(self, path: str) -> tuple[str, int]:
        """Return the SHA-256 (hexadecimal) and size in bytes of a file."""
        digest = hashlib.sha256()
        size = 0
        with self.open(path) as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        return digest.hexdigest(), size

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the size in bytes of each file directly in a folder. The folder may be missing."""
        return {
            name: int(entry["size"])
            for entry in self._entries(folder)
            if entry["type"] == "file"
            and not (name := entry["name"].rsplit("/", 1)[-1]).endswith(TEMPORARY)
        }

    def folders(self, folder: str) -> list[str]:
        """Return the sorted names of a folder's direct subfolders. The folder may be missing."""
        return sorted(
            entry["name"].rstrip("/").rsplit("/", 1)[-1]
            for entry in self._entries(folder)
            if entry["type"] == "directory"
        )

    def find(self, folder: str) -> list[str]:
        """Return the sorted paths of all files below a folder."""
        with self._explained("list", folder):
            found = self.fs.find(self._full(folder))
        skip = len(self.root) + 1
        return sorted(name[skip:] for name in found if not name.endswith(TEMPORARY))

    def write(self, path: str, data: bytes) -> None:
        """Publish bytes under a name, atomically."""
        with self.writer(path, size=len(data)) as handle:
            handle.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """Publish bytes under a new name. If the name exists, return False and write nothing."""
        with self._explained("write", path, needed=len(data)):
            try:
                if self._remote:
                    self.fs.pipe_file(self._full(path), data, mode="create")
                else:
                    with local_files.writer(Path(self.root, path), overwrite=False) as handle:
                        handle.write(data)
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def writer(
        self, path: str, *, size: int | None = None, keep_equal: bool = False
    ) -> Iterator[BinaryIO]:
        """Yield a seekable temporary file that is published under a name if the block succeeds.

        ``size`` is the approximate number of bytes. It is used in the message if the disk is full,
        and to flush a long write while it is in progress. ``keep_equal`` keeps a local file that
        already has the same bytes, together with its hard links.
        """
        with self._explained("write", path, needed=size):
            if self._remote:
                with tempfile.NamedTemporaryFile(prefix="sdoml-") as handle:
                    yield cast("BinaryIO", handle)
                    handle.flush()
                    self.fs.put_file(handle.name, self._full(path))
            else:
                with local_files.writer(
                    Path(self.root, path), size=size or 0, keep_equal=keep_equal
                ) as local:
                    yield local

    def delete(self, path: str) -> None:
        """Remove a file, if it exists."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._full(path))

    def move(self, source: str, target: str) -> None:
        """Rename a file and replace the target. On S3, this is a copy and a delete."""
        with self._explained("move", source):
            local = self.local_path(target)
            if local is None:
                self.fs.cp_file(self._full(source), self._full(target))
                self.fs.rm_file(self._full(source))
            else:
                local.parent.mkdir(parents=True, exist_ok=True)
                Path(self.root, source).replace(local)

    def link_or_copy(self, source: str, target: str) -> None:
        """Publish a file under a second name, as a hard link if possible, otherwise as a copy."""
        local = self.local_path(target)
        with self._explained("write", target):
            if local is None:
                self.fs.cp_file(self._full(source), self._full(target))
                return
            if local_files.link(Path(self.root, source), local):
                return
        with self.open(source) as reader, self.writer(target) as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)

    def file_identity(self, path: str) -> tuple[int, int] | None:
        """Return an identity that all hard links to a file share, or None in an object store."""
        local = self.local_path(path)
        if local is None:
            return None
        with self._explained("look up", path):
            status = local.stat()
        return status.st_dev, status.st_ino

    def is_same_file(self, one: str, other: str) -> bool:
        """Return whether two names are hard links to one file.

        An object store has no links, so return whether both objects have the same size.
        """
        first, second = self.local_path(one), self.local_path(other)
        if first is not None and second is not None:
            return second.exists() and first.samefile(second)
        try:
            sizes = {self.fs.info(self._full(path))["size"] for path in (one, other)}
        except FileNotFoundError as error:
            return self._absent(error)
        return len(sizes) == 1

    def sweep(self, folder: str) -> None:
        """Remove temporary files of killed processes from a folder."""
        local = self.local_path(folder)
        if local is None:
            return
        with self._explained("clean", folder):
            local_files.sweep(local)

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        """List the entries directly in a folder. The folder may be missing."""
        with self._explained("list", folder):
            try:
                return cast("list[dict[str, Any]]", self.fs.ls(self._full(folder), detail=True))
            except FileNotFoundError as error:
                self._absent(error)
                return []

    def _read(self, path: str, start: int, end: int | None) -> bytes:
        local = self.local_path(path)
        with self._explained("read", path):
            if local is None:
                return cast("bytes", self.fs.cat_file(self._full(path), start=start, end=end))
            # Read directly, because fsspec holds the GIL for ten times as long.
            with local.open("rb") as handle:
                handle.seek(start)
                return handle.read(-1 if end is None else end - start)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _absent(self, error: OSError) -> bool:
        """Return False for a missing file, but raise an error for a missing bucket (S3 only)."""
        if "NoSuchBucket" in repr(error.__cause__) or "bucket does not exist" in str(error):
            raise StoreError(f"cannot use {self.url}: the bucket does not exist") from error
        return False

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str, *, needed: int | None = None) -> Iterator[None]:
        """Convert a file system error to one line that says which operation failed, and why."""
        try:
            yield
        except SdomlError:
            raise
        except self._errors as error:
            if isinstance(error, FileNotFoundError):
                self._absent(error)
                if verb != "write":
                    raise
            code = getattr(error, "errno", None)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if code in {errno.ENOSPC, errno.EDQUOT}:
                reason += f" ({self._room(needed)}); free some space and run again"
            kind = StoreError
            if code in _UNUSABLE_PATH:
                kind, reason = StorePathError, f"{reason}; is SDOML_STORE={self.url} right?"
            explained = kind(f"cannot {verb} {self.locate(path)}: {reason}")
            explained.errno = code
            raise explained from error

    def _room(self, needed: int | None) -> str:
        """Describe how much space a file needs and how much is free."""
        # Files for a remote store are first written to the local temporary folder.
        folder = Path(tempfile.gettempdir() if self._remote else self.root)
        free = f"{shutil.disk_usage(folder).free / 2**20:,.1f} MiB free in {folder}"
        return free if needed is None else f"{needed / 2**20:,.1f} MiB needed, {free}"


def _errors_of(url: str) -> tuple[type[Exception], ...]:
    """Return the error types that a store may raise.

    S3 can also raise types other than ``OSError``.
    """
    if not url.startswith("s3://"):
        return (OSError,)
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise SettingError(
            f"SDOML_STORE={url} needs the extra 's3': pip install 'sdoml-lite[s3]' "
            "(in a checkout: pip install -e '.[s3]')"
        ) from None
    return (OSError, BotoCoreError, ClientError)
