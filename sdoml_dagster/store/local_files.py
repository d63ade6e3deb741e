"""Atomic writes of local files.

Each file is written under a temporary name next to the target, flushed to disk and renamed. The
temporary file is locked while it is written, and the lock is released when the process ends. If a
temporary file is not locked, its process was killed.
"""

import contextlib
import errno
import fcntl
import filecmp
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, BinaryIO

TEMPORARY = ".partial"
"""Suffix of temporary names."""

_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP}
"""Errors from a file system that does not support hard links or has reached its link limit."""

_LONG = 32 << 20
"""Writes of at least this many bytes are flushed while they are in progress."""


@contextlib.contextmanager
def writer(
    target: Path, *, size: int = 0, overwrite: bool = True, keep_equal: bool = False
) -> Iterator[BinaryIO]:
    """Yield a temporary file next to the target. Publish it only if the block succeeds.

    Parameters
    ----------
    target
        The final name. Its folder is created.
    size
        Approximate number of bytes, if known.
    overwrite
        Replace an existing file. If False, an existing file raises ``FileExistsError``.
    keep_equal
        If an existing file has the same bytes, keep it with its hard links and modification time.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = _temporary_file(target)
    try:
        with handle:
            with _followed(handle) if size >= _LONG else contextlib.nullcontext():
                yield handle
            handle.flush()
            os.fsync(handle.fileno())
            if keep_equal and target.is_file() and filecmp.cmp(temporary, target, shallow=False):
                return
            if overwrite:
                temporary.replace(target)
            else:
                _claim(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _claim(temporary: Path, target: Path) -> None:
    """Give a file a new name. Raises ``FileExistsError`` if the name is taken."""
    try:
        target.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links, an empty file must claim the name first.
        with target.open("xb"):
            temporary.replace(target)


def link(source: Path, target: Path) -> bool:
    """Publish a hard link and replace the target. Returns False if links are not supported."""
    while True:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(target)
        try:
            os.link(source, temporary)
            try:
                temporary.replace(target)
            finally:
                # Renaming a file to another hard link of the same file does nothing and leaves both
                # names.
                temporary.unlink(missing_ok=True)
        except FileNotFoundError:
            if not source.exists():
                raise
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        else:
            return True


def sweep(folder: Path) -> None:
    """Remove temporary files of killed processes from a folder."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        # The file may have been removed in the meantime, or may belong to another user.
        with (
            contextlib.suppress(FileNotFoundError, PermissionError),
            # Open for writing, because NFS grants exclusive locks only on writable files.
            leftover.open("r+b") as handle,
        ):
            if _lock(handle, wait=False):
                leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _followed(handle: BinaryIO) -> Iterator[None]:
    """Flush a long write while it is in progress, so that the final flush is short.

    Flushed pages are dropped from the page cache. Otherwise, a day's frames and shard would evict
    the pages of other programs. Also, recently freed memory is the fastest to reuse.
    """
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(0.05):
            os.fsync(handle.fileno())
            if hasattr(os, "posix_fadvise"):  # not available on macOS
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    with ThreadPoolExecutor(1, "sync") as pool:
        followed = pool.submit(follow)
        try:
            yield
        finally:
            ended.set()
        followed.result()  # raises the thread's error, if any


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")


def _temporary_file(target: Path) -> tuple[BinaryIO, Path]:
    """Create a locked file. The lock tells `sweep` that a live process is using the file."""
    while True:
        temporary = _temporary_name(target)
        handle = temporary.open("x+b")
        _lock(handle, wait=True)
        if os.fstat(handle.fileno()).st_nlink:
            return handle, temporary
        handle.close()  # `sweep` removed the file just before it was locked


def _lock(handle: IO[bytes], *, wait: bool) -> bool:
    """Lock a file. Returns False if it is already locked, or if locks are unsupported."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
