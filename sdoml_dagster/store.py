"""One folder or bucket that holds everything, over fsspec.

The only place that reads and writes the dataset's files. Paths are relative, with ``/``. A file
appears under its name whole or not at all: locally a temporary file is flushed and renamed,
elsewhere it is one put (multi-part where it is large).

What belongs here: bytes and names. What does not: what the files mean (``sdoml_core``) and where
they lie (:mod:`sdoml_dagster.layout`).
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, BinaryIO, cast

import fsspec

from sdoml_core.errors import SdomlError, StoreError

_TEMPORARY = ".partial"
"""Ending of temporary names; an unlocked file with it is what a killed process left."""

_CHUNK = 1 << 20


class Store:
    """Reads, publishes and lists files below one root.

    Parameters
    ----------
    url
        A folder, or a URL that fsspec knows, such as ``s3://bucket/prefix``. S3 endpoint and
        credentials come from the usual AWS variables.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._remote = "://" in url and not url.startswith("file://")
        self._errors = _errors_of(url)
        # A cached listing would hide what another worker has published since.
        options = {"use_listings_cache": False} if self._remote else {}
        fs, root = fsspec.url_to_fs(url, **options)
        self.fs: fsspec.AbstractFileSystem = fs
        self.root = str(root).rstrip("/")

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def locate(self, path: str) -> str:
        """The full path or URL of a file, to show to people."""
        root = self.url.rstrip("/") if self._remote else self.root
        return f"{root}/{path}" if path else root

    def local_path(self, path: str) -> Path | None:
        """The file's path on this machine; ``None`` where the store is remote."""
        return None if self._remote else Path(self.root, path)

    def exists(self, path: str) -> bool:
        """Whether a file is there."""
        with self._explained("look up", path):
            return bool(self.fs.isfile(self._full(path)))

    def read(self, path: str) -> bytes:
        """A whole file; ``FileNotFoundError`` where it is absent."""
        with self._explained("read", path):
            return cast("bytes", self.fs.cat_file(self._full(path)))

    def read_if_there(self, path: str) -> bytes | None:
        """A whole file, or ``None`` where it is absent."""
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Bytes from ``start`` up to ``end``; fewer where the file is shorter."""
        with self._explained("read", path):
            return cast("bytes", self.fs.cat_file(self._full(path), start=start, end=end))

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[BinaryIO]:
        """A file to read in parts."""
        with self._explained("read", path):
            handle = self.fs.open(self._full(path), "rb")
        with handle:
            yield cast("BinaryIO", handle)

    def modified(self, path: str) -> datetime:
        """When a file was last published (UTC)."""
        with self._explained("look up", path):
            return cast("datetime", self.fs.modified(self._full(path)))

    def sha256(self, path: str) -> str:
        """SHA-256 of a file's bytes, in hex."""
        digest = hashlib.sha256()
        with self.open(path) as handle:
            while chunk := handle.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def sizes(self, folder: str) -> dict[str, int]:
        """Sizes in bytes of the files directly in a folder, by name; empty where it is absent."""
        with self._explained("list", folder):
            try:
                entries = self.fs.ls(self._full(folder), detail=True)
            except FileNotFoundError:
                return {}
        return {
            name: int(entry["size"])
            for entry in entries
            if entry["type"] == "file"
            and not (name := entry["name"].rsplit("/", 1)[-1]).endswith(_TEMPORARY)
        }

    def find(self, folder: str) -> list[str]:
        """Paths of all files below a folder, sorted."""
        with self._explained("list", folder):
            found = self.fs.find(self._full(folder))
        skip = len(self.root) + 1
        return sorted(name[skip:] for name in found if not name.endswith(_TEMPORARY))

    def write(self, path: str, data: bytes) -> None:
        """Publish bytes under a name, whole or not at all."""
        with self.writer(path) as handle:
            handle.write(data)

    def create(self, path: str, data: bytes) -> bool:
        """Publish bytes under a name that is not taken; False, and nothing done, where it is."""
        with self._explained("write", path):
            try:
                if self._remote:
                    self.fs.pipe_file(self._full(path), data, mode="create")
                else:
                    with self._local_writer(Path(self.root, path), new=True) as handle:
                        handle.write(data)
            except FileExistsError:
                return False
        return True

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A seekable temporary file that is published under a name when the block ends well."""
        with self._explained("write", path):
            if self._remote:
                with tempfile.TemporaryFile() as handle:
                    yield cast("BinaryIO", handle)
                    self._put(handle, path)
            else:
                with self._local_writer(Path(self.root, path)) as handle:
                    yield handle

    def delete(self, path: str) -> None:
        """Remove a file; one that is absent already is no error."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._full(path))

    def link_or_copy(self, source: str, target: str) -> None:
        """Publish a file under a second name: a hard link where the store can, else a copy."""
        local = self.local_path(target)
        with self._explained("write", target):
            if local is None:
                self.fs.cp_file(self._full(source), self._full(target))
                return
            local.parent.mkdir(parents=True, exist_ok=True)
            temporary = local.with_name(f".{local.name}.{os.getpid()}{_TEMPORARY}")
            temporary.unlink(missing_ok=True)
            try:
                os.link(Path(self.root, source), temporary)
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP}:
                    raise
            else:
                temporary.replace(local)
                return
        with self.open(source) as reader, self.writer(target) as writer:
            while chunk := reader.read(_CHUNK):
                writer.write(chunk)

    def sweep(self, folder: str) -> None:
        """Remove what killed processes left half-written in a folder; live writers keep theirs."""
        local = self.local_path(folder)
        if local is None:
            return
        for leftover in local.glob(f".*{_TEMPORARY}"):
            with contextlib.suppress(FileNotFoundError), leftover.open("rb") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                leftover.unlink(missing_ok=True)

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _put(self, handle: IO[bytes], path: str) -> None:
        size = handle.seek(0, os.SEEK_END)
        handle.seek(0)
        if size <= 64 * _CHUNK:
            self.fs.pipe_file(self._full(path), handle.read())
            return
        # fsspec aborts the multi-part upload when the block raises, so nothing is published.
        with self.fs.open(self._full(path), "wb", block_size=64 * _CHUNK) as remote:
            try:
                while chunk := handle.read(16 * _CHUNK):
                    remote.write(chunk)
            except BaseException:
                remote.discard()
                raise

    @contextlib.contextmanager
    def _local_writer(self, target: Path, *, new: bool = False) -> Iterator[BinaryIO]:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{_TEMPORARY}")
        try:
            with temporary.open("x+b") as handle:
                # The lock tells `sweep` that this writer lives; it goes when the process goes.
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
                if new:
                    target.hardlink_to(temporary)
                    temporary.unlink()
                else:
                    temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        """Turn the many errors of file systems into one line that says what could not be done."""
        try:
            yield
        except SdomlError:
            raise
        except self._errors as error:
            if isinstance(error, FileNotFoundError) and verb != "write":
                raise
            code = getattr(error, "errno", None)
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            if code == errno.ENOSPC and not self._remote:
                free = shutil.disk_usage(self.root).free
                reason = f"{reason} ({free / 2**20:,.0f} MiB free); make room and run again"
            explained = StoreError(f"cannot {verb} {self.locate(path)}: {reason}")
            explained.errno = code
            raise explained from error


def _errors_of(url: str) -> tuple[type[Exception], ...]:
    """What a store may raise: S3 has errors of its own beside ``OSError``."""
    if not url.startswith("s3://"):
        return (OSError,)
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise StoreError(f"{url} needs the extra 's3': pip install 'sdoml-lite[s3]'") from None
    return (OSError, BotoCoreError, ClientError)
