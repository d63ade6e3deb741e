"""Byte ranges out of shards: from a local folder by positioned reads, from anywhere by fsspec.

Positioned reads share no file position, so that threads and forked workers can use the same
handles; a handle is closed when the last reader lets go of it.
"""

import hashlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, cast

from sdoml_core.errors import DamagedFileError, StoreError

MAX_HANDLES: Final = 256
ATTEMPTS: Final = 5
FIRST_PAUSE: Final = 0.2  # s; doubles with each attempt


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
        self, name: str, start: int, buffers: Sequence[memoryview], size: int | None
    ) -> None:
        """Fill buffers, one after the other, with the bytes of a file from `start` on.

        `size` is what the file must have in all, where that is known.
        """


def open_files(
    data_dir: str | os.PathLike[str],
    *,
    storage_options: dict[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Files:
    """The folder that a path or URL names."""
    path = os.fspath(data_dir)
    if path.startswith("file://"):
        path = path.removeprefix("file://")
    if "://" in path:
        return RemoteFiles(path.rstrip("/"), storage_options or {}, cache_dir)
    return LocalFiles(path)


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
            raise StoreError(f"there is no folder {self.root}")
        years = [p for p in folder.iterdir() if p.is_dir() and _is_year(p.name)]
        found = [
            FileFacts(str(path.relative_to(folder)), facts.st_size, str(facts.st_mtime_ns))
            for parent in (folder, *years)
            for path in parent.iterdir()
            if _concerns(path.name) and path.is_file()
            for facts in (path.stat(),)
        ]
        return sorted(found, key=lambda facts: facts.name)

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
        self, name: str, start: int, buffers: Sequence[memoryview], size: int | None
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
                handle = _Handle(os.path.join(self.root, name))  # noqa: PTH118 pathlib is slow
            except OSError as error:
                raise StoreError(f"cannot open {name} in {self.root}: {error.strerror}") from error
            self._handles[name] = handle
            for oldest in list(self._handles)[:-MAX_HANDLES]:
                self._handles.pop(oldest, None)
        return handle


class RemoteFiles:
    """Shards behind a URL that fsspec knows, read by byte ranges.

    A connection belongs to one process: after a fork each worker opens its own.
    """

    def __init__(
        self,
        root: str,
        storage_options: dict[str, Any],
        cache_dir: str | os.PathLike[str] | None,
    ):
        self.root = root
        self._options = storage_options
        self._cache = None
        if cache_dir is not None:
            tag = hashlib.sha256(root.encode()).hexdigest()[:16]
            self._cache = Path(cache_dir) / tag
        self._connected: tuple[int, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_connected": None}

    def list(self) -> list[FileFacts]:
        """Tars and Parquet files of the folder and of its folders for years."""
        found = {}
        for parent in ("", *self._years()):
            for entry in self._retry("ls", f"{self.root}/{parent}".rstrip("/"), detail=True):
                name = entry["name"].rstrip("/").rsplit("/", 1)[-1]
                if entry["type"] != "directory" and _concerns(name):
                    name = f"{parent}/{name}".lstrip("/")
                    changed = entry.get("ETag") or entry.get("LastModified") or entry.get("mtime")
                    found[name] = FileFacts(name, entry.get("size") or -1, str(changed))
        return [found[name] for name in sorted(found)]

    def _years(self) -> Sequence[str]:
        entries = self._retry("ls", self.root, detail=True)
        names = (entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries)
        return sorted({name for name in names if _is_year(name)})

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        return bool(self._retry("exists", f"{self.root}/{name}"))

    def open(self, name: str) -> BinaryIO:
        """A file to seek in, unbuffered."""
        file = self._retry("open", f"{self.root}/{name}", mode="rb", cache_type="none")
        return cast("BinaryIO", file)

    def read(self, name: str) -> bytes:
        """A whole file."""
        return bytes(self._retry("cat_file", f"{self.root}/{name}"))

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], size: int | None
    ) -> None:
        """Fill buffers with the bytes of a file from `start` on."""
        wanted = sum(map(len, buffers))
        copy = self._cache / f"{name}.{size}" / f"{start}-{wanted}" if self._cache else None
        data = _cached(copy, wanted)
        fresh = data is None
        if data is None:
            data = self._retry("cat_file", f"{self.root}/{name}", start=start, end=start + wanted)
        if len(data) > wanted:
            raise StoreError(f"{self.root} does not serve byte ranges")
        if len(data) < wanted:
            raise DamagedFileError(
                f"{name} in {self.root} is cut short: {wanted} bytes from byte {start} "
                f"wanted, {len(data)} there"
            )
        position = 0
        for buffer in buffers:
            buffer[:] = data[position : position + len(buffer)]
            position += len(buffer)
        if copy is not None and fresh:
            write_atomically(copy, data)

    def _retry(self, method: str, path: str, **arguments: Any) -> Any:
        """Call the filesystem; whatever a later try can mend is tried again."""
        for attempt in range(ATTEMPTS):
            try:
                return getattr(self._filesystem(), method)(path, **arguments)
            except FileNotFoundError as error:
                raise StoreError(f"there is no {path}") from error
            except _network_errors() as error:
                status = getattr(error, "status", None)
                final = isinstance(error, PermissionError) or (
                    status is not None and 400 <= status < 500 and status not in {408, 429}
                )
                if final or attempt + 1 == ATTEMPTS:
                    raise StoreError(f"cannot read {path}: {error!r}") from error
            time.sleep(FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError

    def _filesystem(self) -> Any:
        if self._connected is None or self._connected[0] != os.getpid():
            import fsspec

            protocol = self.root.partition("://")[0]
            self._connected = (os.getpid(), fsspec.filesystem(protocol, **self._options))
        return self._connected[1]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _cached(path: Path | None, size: int) -> bytes | None:
    """A cached range, if it is there and whole."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if len(data) == size else None


def _network_errors() -> tuple[type[Exception], ...]:
    """What a filesystem raises where the network fails; HTTP's own errors are no OSError."""
    aiohttp = sys.modules.get("aiohttp")
    return (OSError, aiohttp.ClientError) if aiohttp else (OSError,)


def _after(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """What of the buffers is still to be filled."""
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
        done = max(0, done - len(buffer))
    return rest


def _is_year(name: str) -> bool:
    return len(name) == 4 and name.isdigit()


def _concerns(name: str) -> bool:
    return name.endswith((".tar", ".parquet")) and not name.startswith(".")
