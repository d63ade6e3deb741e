"""Byte ranges out of the shards of a folder, by positioned reads.

Positioned reads share no file position, so that threads and forked workers can use the same
handles; a handle is closed when the last reader lets go of it.
"""

import errno
import hashlib
import os
import resource
import secrets
import stat
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from sdoml_core.errors import DamagedFileError, StoreError

MAX_HANDLES: Final = 256
"""Open files that a dataset keeps, unless the process may have fewer than four times as many."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a listing tells about a file: enough to notice that it has changed."""

    name: str
    size: int
    changed: str


class Files(Protocol):
    """A folder of shards."""

    root: str

    def list(self) -> list[FileFacts]:
        """All files below the folder that concern a dataset, in order of their names."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def read(self, name: str) -> bytes:
        """A whole file."""

    def open(self, name: str) -> BinaryIO:
        """A file to seek in; it reads what it is asked for and no more."""

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Fill buffers, one after the other, with the bytes of a file from `start` on.

        `size` is what the file must have in all, where that is known. `tag` tells its content from
        what else may have had its name: a copy is kept by it.
        """


class _Handle:
    """An open file that closes with its last reference."""

    def __init__(self, path: str):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class LocalFiles:
    """Shards in a local folder."""

    def __init__(self, root: str):
        self.root = root
        self._handles: dict[str, _Handle] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["root"])  # type: ignore[misc]

    def list(self) -> list[FileFacts]:
        """Tars and Parquet files of the folder and of its folders for years."""
        folder = Path(self.root)
        if not folder.is_dir():
            if folder.is_file():
                raise StoreError(f"{self.root} is a file: give the folder that it is in")
            raise StoreError(f"there is no folder {self.root}")
        years = [p for p in folder.iterdir() if p.is_dir() and is_year(p.name)]
        found = [
            FileFacts(str(path.relative_to(folder)), facts.st_size, str(facts.st_mtime_ns))
            for parent in (folder, *years)
            for path in parent.iterdir()
            if concerns(path.name)
            for facts in (_stat(path),)
            if facts is not None
        ]
        return sorted(found, key=lambda facts: facts.name)

    def names(self) -> set[str]:
        """Names of all entries directly in the folder."""
        return set(os.listdir(self.root))  # noqa: PTH208 pathlib is slow

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return Path(self.root, name).is_file()

    def open(self, name: str) -> BinaryIO:
        """A file to seek in, unbuffered."""
        try:
            return cast("BinaryIO", Path(self.root, name).open("rb", buffering=0))
        except OSError as error:
            raise StoreError(f"cannot open {name} in {self.root}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """A whole file."""
        try:
            return Path(self.root, name).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {name} in {self.root}: {error}") from error

    def read_into(
        self,
        name: str,
        start: int,
        buffers: Sequence[memoryview],
        *,
        size: int | None,
        tag: str,  # noqa: ARG002 nothing is kept of what is here
    ) -> None:
        """Fill buffers with the bytes of a file from `start` on."""
        handle = self._handle(name)
        if size is not None and handle.size != size:
            raise DamagedFileError(
                f"{name} in {self.root} has {handle.size} bytes, its index says {size}"
            )
        wanted = sum(map(len, buffers))
        done = os.preadv(handle.descriptor, buffers, start)
        while done < wanted:  # the end of the file, or more than one call may give
            rest = _after(buffers, done)
            more = os.preadv(handle.descriptor, rest, start + done)
            if more == 0:
                raise DamagedFileError(
                    f"{name} in {self.root} is cut short: {handle.size} bytes, "
                    f"{start + wanted} needed"
                )
            done += more

    def _handle(self, name: str) -> _Handle:
        # Without a lock, which a fork could copy while it is held: each step is atomic, and
        # two threads that open the same file do no harm.
        handle = self._handles.get(name)
        if handle is None:
            try:
                handle = self._open_handle(name)
            except OSError as error:
                raise StoreError(f"cannot open {name} in {self.root}: {error.strerror}") from error
            self._handles[name] = handle
            for oldest in list(self._handles)[: -_handle_limit()]:
                self._handles.pop(oldest, None)
        return handle

    def _open_handle(self, name: str) -> _Handle:
        path = os.path.join(self.root, name)  # noqa: PTH118 pathlib is slow
        try:
            return _Handle(path)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
        self._handles.clear()  # other parts of the program hold many files too
        return _Handle(path)


def _handle_limit() -> int:
    """Handles to keep: at most a quarter of the files that the process may open."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_HANDLES if allowed == resource.RLIM_INFINITY else min(MAX_HANDLES, allowed // 4)


def cache_folder(cache_dir: str | os.PathLike[str], root: str) -> Path:
    """Folder of a cache for one folder of shards."""
    return Path(cache_dir).expanduser().absolute() / hashlib.sha256(root.encode()).hexdigest()[:16]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # with the rights that the user's files have
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _after(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """What of the buffers is still to be filled."""
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
        done = max(0, done - len(buffer))
    return rest


def _stat(path: Path) -> os.stat_result | None:
    """Size and time of a file; ``None`` if it is no file, or was removed meanwhile."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            warnings.warn(f"left out: {path} is a broken link", stacklevel=6)
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def is_year(name: str) -> bool:
    """Whether a folder of this name holds the shards of a year."""
    return len(name) == 4 and name.isdigit()


def concerns(name: str) -> bool:
    """Whether a file of this name is a shard or an index."""
    return name.endswith((".tar", ".parquet")) and not name.startswith(".")
