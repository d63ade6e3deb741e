"""Keep a folder's last finished release available while a new one is written."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdoml_core.formats.release_files import RELEASE_INDEX, RELEASE_SUMS
from sdoml_dagster.release.index import IndexRows
from sdoml_dagster.store.store import Store

PREVIOUS_SUMS = f"{RELEASE_SUMS}.previous"
PREVIOUS_INDEX = f"{RELEASE_INDEX}.previous"
"""Names of two files of the last release while the new release is being written."""

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class PreviousRelease:
    """The last finished release in a folder. Empty if there is no such release."""

    store: Store
    folder: str
    sums: bytes
    """Content of the release's SHA256SUMS."""

    @property
    def hashes(self) -> Mapping[str, str]:
        """SHA-256 of each file in the release, by name."""
        pairs = (line.partition("  ") for line in self.sums.decode(errors="replace").splitlines())
        return {name: sha256 for sha256, _, name in pairs}

    @contextlib.contextmanager
    def index(self, sums_sha256: str, spool: Path) -> Iterator[IndexRows | None]:
        """Open the release's index.

        Yields None if the index is missing or damaged, or if ``sums_sha256`` is not the SHA-256 of
        the release's SHA256SUMS. An index in an object store is copied to the local folder
        ``spool``.
        """
        if hashlib.sha256(self.sums).hexdigest() != sums_sha256:
            yield None
            return
        path = f"{self.folder}/{PREVIOUS_INDEX}"
        found, local = self._fetch(path, spool)
        if found is None or found != self.hashes.get(RELEASE_INDEX):
            yield None
            return
        with contextlib.closing(IndexRows(local)) as rows:
            yield rows

    def delete(self) -> None:
        """Delete the files that `set_aside` kept."""
        for name in (PREVIOUS_SUMS, PREVIOUS_INDEX):
            self.store.delete(f"{self.folder}/{name}")

    def _fetch(self, path: str, spool: Path) -> tuple[str | None, Path]:
        """Return the SHA-256 of a file (None if it is missing) and the path of a local copy."""
        local = self.store.local_path(path)
        try:
            if local is not None:
                return self.store.sha256_and_size(path)[0], local
            local = spool / PREVIOUS_INDEX
            digest = hashlib.sha256()
            with self.store.open(path) as source, local.open("wb") as copy:
                while chunk := source.read(_CHUNK):
                    digest.update(chunk)
                    copy.write(chunk)
            return digest.hexdigest(), local
        except FileNotFoundError:
            return None, spool


def set_aside(store: Store, folder: str) -> PreviousRelease:
    """Mark the release as unfinished, and return the last finished release.

    The SHA256SUMS and the index of the finished release are kept under other names until the new
    files are written. A build that is restarted after a kill then does not have to read and hash
    everything again.
    """
    sums = store.read_if_exists(f"{folder}/{RELEASE_SUMS}")
    if sums is not None:
        store.write(f"{folder}/{PREVIOUS_SUMS}", sums)
        store.delete(f"{folder}/{RELEASE_SUMS}")
    else:
        sums = store.read_if_exists(f"{folder}/{PREVIOUS_SUMS}") or b""
    if store.exists(f"{folder}/{RELEASE_INDEX}"):
        store.move(f"{folder}/{RELEASE_INDEX}", f"{folder}/{PREVIOUS_INDEX}")
    return PreviousRelease(store, folder, sums)
