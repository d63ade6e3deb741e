"""Read byte ranges of local shards with positioned reads.

Positioned reads do not share a file position, so threads and forked workers can use the same
handles. A handle is closed when its last reference is deleted.
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
"""Maximum number of files that a dataset keeps open. If a quarter of the process's file limit is
lower, it is used instead."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file in a listing, with enough information to detect changes."""

    name: str
    size: int
    changed: str


class RangeFiles(Protocol):
    """Files from which byte ranges can be read."""

    root: str
    """Path or URL of the folder, for messages."""

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Fill buffers in order with the bytes of a file, starting at `start`.

        `size` is the expected size of the file, if known. `tag` identifies its content in a cache.
        """


class Files(RangeFiles, Protocol):
    """The files of a shard folder, local or remote."""

    def list(self) -> list[FileFacts]:
        """List all shards and indexes in the folder, sorted by name."""

    def has(self, name: str) -> bool:
        """Return whether the file exists."""

    def read(self, name: str) -> bytes:
        """Read a whole file."""

    def version(self, name: str) -> str:
        """Return a string that changes when the file is replaced.

        Raise an error if the file does not exist.
        """

    def open(self, name: str) -> BinaryIO:
        """Open a seekable, unbuffered file."""


class _Handle:
    """An open file that is closed when its last reference is deleted."""

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
        """List the tar and Parquet files in the folder and in its year folders."""
        folder = Path(self.root)
        if not folder.is_dir():
            if folder.is_file():
                raise StoreError(f"{self.root} is a file; pass its folder instead")
            raise StoreError(f"folder {self.root} does not exist")
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
        """Return the names of all entries directly in the folder."""
        return set(os.listdir(self.root))  # noqa: PTH208 pathlib is slow

    def has(self, name: str) -> bool:
        """Return whether the file exists."""
        return Path(self.root, name).is_file()

    def open(self, name: str) -> BinaryIO:
        """Open a seekable, unbuffered file."""
        try:
            return cast("BinaryIO", Path(self.root, name).open("rb", buffering=0))
        except OSError as error:
            raise StoreError(f"cannot open {name} in {self.root}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        try:
            return Path(self.root, name).read_bytes()
        except OSError as error:
            raise StoreError(f"cannot read {name} in {self.root}: {error}") from error

    def version(self, name: str) -> str:
        """Return a string that changes when the file is replaced."""
        try:
            facts = Path(self.root, name).stat()
        except OSError as error:
            raise StoreError(f"cannot read {name} in {self.root}: {error.strerror}") from error
        return f"{facts.st_ino} {facts.st_mtime_ns} {facts.st_size}"

    def read_into(
        self,
        name: str,
        start: int,
        buffers: Sequence[memoryview],
        *,
        size: int | None,
        tag: str,  # noqa: ARG002 local files are not cached
    ) -> None:
        """Fill buffers in order with the bytes of a file, starting at `start`."""
        handle = self._handle(name)
        if size is not None and handle.size != size:
            raise DamagedFileError(
                f"{name} in {self.root} has {handle.size} bytes, but its index says {size}"
            )
        wanted = sum(map(len, buffers))
        done = os.preadv(handle.descriptor, buffers, start)
        while done < wanted:  # the end of the file or the maximum size of a call was reached
            rest = _after(buffers, done)
            more = os.preadv(handle.descriptor, rest, start + done)
            if more == 0:
                raise DamagedFileError(
                    f"{name} in {self.root} is truncated: it has {handle.size} bytes, but at least "
                    f"{start + wanted} are needed"
                )
            done += more

    def _handle(self, name: str) -> _Handle:
        # Use no lock, because a fork could copy it while it is held. Each step is atomic, and it is
        # harmless if two threads open the same file.
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
        self._handles.clear()  # the process has too many open files
        return _Handle(path)


def _handle_limit() -> int:
    """Return the number of handles to keep: at most a quarter of the process's file limit."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MAX_HANDLES if allowed == resource.RLIM_INFINITY else min(MAX_HANDLES, allowed // 4)


def cache_folder(cache_dir: str | os.PathLike[str], root: str) -> Path:
    """Return the cache folder of a shard folder."""
    return Path(cache_dir).expanduser().absolute() / hashlib.sha256(root.encode()).hexdigest()[:16]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, and then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # The `tempfile` module makes files private. `open` uses the default permissions.
        with temporary.open("xb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _after(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """Return the parts of the buffers that have not been filled yet."""
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
        done = max(0, done - len(buffer))
    return rest


def _stat(path: Path) -> os.stat_result | None:
    """Return the status of a file, or ``None`` if it is not a file or was just removed."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            warnings.warn(f"{path} is skipped because it is a broken link", stacklevel=6)
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def is_year(name: str) -> bool:
    """Check whether a folder name is a year."""
    return len(name) == 4 and name.isdigit()


def concerns(name: str) -> bool:
    """Check whether a file name belongs to a shard or an index."""
    return name.endswith((".tar", ".parquet")) and not name.startswith(".")
