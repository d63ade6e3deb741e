"""Files on this machine that appear under their names whole or not at all.

A temporary file beside the target is flushed to the disk and renamed. While it is written it is
locked, and the lock goes with its process: an unlocked one is what a killed process left.
"""

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, BinaryIO

TEMPORARY = ".partial"
"""Ending of temporary names."""

_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP}
"""What a file system says that has no hard links, or no more of them."""

_LONG = 32 << 20
"""Bytes from which on the disk follows a write while it goes on."""


@contextlib.contextmanager
def writer(target: Path, *, size: int = 0, overwrite: bool = True) -> Iterator[BinaryIO]:
    """A temporary file beside its target, published when the block ends well, else removed.

    Parameters
    ----------
    target
        The final name; its folder is made.
    size
        About how many bytes the file will have, where known.
    overwrite
        Takes the place of what has the name; else that is a ``FileExistsError``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = _temporary_file(target)
    try:
        with handle:
            with _followed(handle) if size >= _LONG else contextlib.nullcontext():
                yield handle
            handle.flush()
            os.fsync(handle.fileno())
            if overwrite:
                temporary.replace(target)
            else:
                _claim(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _claim(temporary: Path, target: Path) -> None:
    """Give a file a name that nothing has; ``FileExistsError`` where something has it."""
    try:
        target.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # The name is taken first, empty for a moment: there is no better way without links.
        with target.open("xb"):
            temporary.replace(target)


def link(source: Path, target: Path) -> bool:
    """Publish a hard link, in place of what is there; False where the file system has none."""
    while True:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary_name(target)
        try:
            os.link(source, temporary)
            try:
                temporary.replace(target)
            finally:
                # Renaming to a name of the same file does nothing and leaves both.
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
    """Remove what killed processes left half-written in a folder; live writers keep theirs."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        # Gone meanwhile, or another user's: not ours to remove.
        with (
            contextlib.suppress(FileNotFoundError, PermissionError),
            # For writing, though nothing is written: NFS locks no other file exclusively.
            leftover.open("r+b") as handle,
        ):
            if _lock(handle, wait=False):
                leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _followed(handle: BinaryIO) -> Iterator[None]:
    """Let the disk follow a long write, so that the flush at its end is short.

    What is on the disk leaves the page cache: a day of frames and its shard would otherwise push
    out what other programs keep there, and the kernel finds no memory as fast as that just freed.
    """
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(0.05):
            os.fsync(handle.fileno())
            if hasattr(os, "posix_fadvise"):  # macOS has none
                os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    with ThreadPoolExecutor(1, "sync") as pool:
        followed = pool.submit(follow)
        try:
            yield
        finally:
            ended.set()
        followed.result()  # an error is told to one caller only


def _temporary_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")


def _temporary_file(target: Path) -> tuple[BinaryIO, Path]:
    """A new locked file; the lock, which goes with its process, tells `sweep` that it is in use."""
    while True:
        temporary = _temporary_name(target)
        handle = temporary.open("x+b")
        _lock(handle, wait=True)
        if os.fstat(handle.fileno()).st_nlink:
            return handle, temporary
        handle.close()  # swept in the instant before it was locked


def _lock(handle: IO[bytes], *, wait: bool) -> bool:
    """Whether the file is now locked; never where the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
