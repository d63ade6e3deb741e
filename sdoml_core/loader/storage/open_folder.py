"""Open the catalog of a shard folder, from its index or from a generated index.

If a folder has no index, the loader generates an index and saves it in a hidden file next to the
shards. The generated index records the names, sizes and modification times of the files. When these
change, only the changed files are read again.
"""

import contextlib
import io
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pyarrow as pa

from sdoml_core.errors import DamagedFileError, DatasetError, SdomlError
from sdoml_core.formats.index import INDEX_SCHEMA, Index, decode_index
from sdoml_core.formats.merge_indexes import merge_releases
from sdoml_core.formats.parquet import open_parquet, read_columns, write_parquet
from sdoml_core.formats.release_files import RELEASE_CONSTANTS, RELEASE_INDEX
from sdoml_core.formats.release_index import consolidate
from sdoml_core.formats.shard_scan import scan_shard
from sdoml_core.loader.storage.catalog import SOURCES, Catalog
from sdoml_core.loader.storage.local import (
    FileFacts,
    Files,
    LocalFiles,
    cache_folder,
    write_atomically,
)
from sdoml_core.loader.storage.range_cache import DEFAULT_BYTES
from sdoml_core.loader.storage.remote import RemoteFiles

KEPT_INDEX: Final = ".sdoml-lite-index.parquet"
THREADS: Final = 8
ATTEMPTS: Final = 5
"""Maximum number of times that a folder is read again because a writer is changing it."""


@dataclass(frozen=True)
class _Shard:
    """A listed shard, with its index if it has one."""

    tar: FileFacts
    index: FileFacts | None

    def fingerprint(self) -> list[str]:
        """Describe the files. A saved index is valid only while the descriptions are unchanged."""
        facts = (self.tar, self.index) if self.index else (self.tar,)
        return [f"{file.name} {file.size} {file.changed}" for file in facts]


def open_files(
    data_dir: str | os.PathLike[str],
    *,
    storage_options: dict[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_BYTES,
) -> Files:
    """Return the folder at a path or URL. Relative paths are resolved immediately."""
    path = os.fspath(data_dir)
    parts = urlsplit(path)
    if parts.scheme == "file":
        if parts.netloc not in {"", "localhost"}:
            raise DatasetError(f"{path} refers to another host: file URLs must be local")
        path = url2pathname(parts.path)
    elif "://" in path:
        return RemoteFiles(path.rstrip("/"), storage_options or {}, cache_dir, cache_bytes)
    return LocalFiles(str(Path(path).expanduser().absolute()))


def open_catalog(files: Files, *, cache_dir: str | os.PathLike[str] | None = None) -> Catalog:
    """Open the catalog of a shard folder.

    Parameters
    ----------
    files
        A release (``index.parquet`` and tar files); daily shards with their indexes, in the folder
        or in one folder per year; or only tar files.
    cache_dir
        Folder for generated indexes. By default, they are saved in the shard folder if it is local.

    Raises
    ------
    DatasetError
        If there are no shards, or a release is incomplete.
    NormalizationError
        If the shards were normalized with different constants.
    """
    if files.has(RELEASE_INDEX):
        local = isinstance(files, LocalFiles)
        try:
            return Catalog(
                str(Path(files.root, RELEASE_INDEX)) if local else files.read(RELEASE_INDEX)
            )
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{RELEASE_INDEX} in {files.root}: {error}; run make_release again"
            ) from error
    if files.has(RELEASE_CONSTANTS):
        raise DatasetError(
            f"{files.root} is an incomplete release: it has no {RELEASE_INDEX}; "
            "run make_release again"
        )
    for _ in range(ATTEMPTS):
        shards = _shards(files)
        try:
            return _made_catalog(files, shards, _place(files, cache_dir))
        except SdomlError:
            if _shards(files) == shards:
                raise
            # A writer changed the folder in the meantime: read it again.
    return _made_catalog(files, _shards(files), _place(files, cache_dir))


def _made_catalog(files: Files, shards: list[_Shard], kept_at: Path | None) -> Catalog:
    """Build the catalog of the given shards, and reuse the valid part of the saved index."""
    fingerprints = {shard.tar.name: shard.fingerprint() for shard in shards}
    catalog, kept, known = _kept(kept_at)
    unchanged = {name for name, mark in known.items() if fingerprints.get(name) == mark}
    if catalog and unchanged == known.keys() == fingerprints.keys():
        return catalog

    new = [shard for shard in shards if shard.tar.name not in unchanged]
    with ThreadPoolExecutor(THREADS) as pool:
        made = consolidate(pool.map(lambda shard: _read_index(files, shard), new))
    table = read_columns(open_parquet(made))
    if kept and unchanged:
        table = merge_releases(kept, unchanged, table)
    facts = table.schema.metadata | {SOURCES: json.dumps(fingerprints)}
    data = write_parquet(table.replace_schema_metadata(facts))
    if kept_at:
        # If the folder is read-only or full, the index is kept in memory only.
        with contextlib.suppress(OSError):
            write_atomically(kept_at, data)
    return Catalog(data)


def without_missing_shards(files: Files, catalog: Catalog, *, skip: bool) -> Catalog:
    """Check that the shards of a local release exist, and return its catalog.

    Parameters
    ----------
    files, catalog
        The folder and the catalog of its index.
    skip
        Whether to treat frames of missing shards as missing. Otherwise, missing shards raise an
        error.

    Raises
    ------
    DatasetError
        If shards are missing. The message lists them and explains how to continue without them.
    """
    if not isinstance(files, LocalFiles):
        return catalog
    present = files.names()
    used = [catalog.shards[number] for number in np.unique(catalog.shard)]
    missing = [name for name in used if "/" not in name and name not in present]
    if not missing:
        return catalog
    if skip:
        return catalog.without(missing)
    listed = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
    raise DatasetError(
        f"{len(missing)} of {len(catalog.shards)} shards are missing from {files.root}: {listed}. "
        "Copy them to the folder, or pass missing_shards='skip' to leave out their samples"
    )


def _shards(files: Files) -> list[_Shard]:
    """List the shards of a folder with their indexes."""
    listing = {file.name: file for file in files.list()}
    tars = [file for file in listing.values() if file.name.endswith(".tar")]
    if not tars:
        hint = ""
        if isinstance(files, LocalFiles):
            root = Path(files.root)
            below = [
                path for path in (root / "shards", *sorted(root.iterdir())) if _holds_shards(path)
            ]
            hint = f"; there are shards in {below[0]}" if below else ""
        raise DatasetError(f"no shards (*.tar) in {files.root}{hint}")
    shards = [_Shard(tar, listing.get(f"{tar.name[:-4]}.parquet")) for tar in tars]
    known = {shard.index.name for shard in shards if shard.index}
    _warn_of(
        [name for name in listing if name.endswith(".parquet") and name not in known],
        "their shards are missing",
    )
    indexed = [shard for shard in shards if shard.index]
    if indexed and len(indexed) < len(shards):
        _warn_of(
            [shard.tar.name for shard in shards if not shard.index],
            "they have no index, unlike the other shards",
        )
        return indexed
    if len(shards) > 1 and not indexed:
        warnings.warn(
            f"the {len(shards)} shards in {files.root} have no index, so the loader cannot check "
            "that all were normalized with the same constants",
            stacklevel=4,
        )
    return shards


def _warn_of(names: list[str], why: str) -> None:
    """Warn about files that are skipped."""
    if names:
        more = " …" if len(names) > 5 else ""
        warnings.warn(
            f"these files are skipped because {why}: {', '.join(names[:5])}{more}", stacklevel=5
        )


def _holds_shards(folder: Path) -> bool:
    """Check whether a folder, or one of its year folders, contains shards."""
    return any(any(folder.glob(pattern)) for pattern in ("*.tar", "[0-9][0-9][0-9][0-9]/*.tar"))


def _read_index(files: Files, shard: _Shard) -> Index:
    """Read the index of a shard from its file, or build it from the headers of the shard."""
    name = shard.tar.name
    try:
        if shard.index:
            index = decode_index(files.read(shard.index.name))
            if index.shard.rpartition("/")[2] != name.rpartition("/")[2]:
                raise DamagedFileError(f"it is the index of a different shard, {index.shard}")
            table, version, digest = index.table, index.normalization_version, index.shard_sha256
            size = index.shard_bytes
        else:
            with files.open(name) as file:
                members = scan_shard(file)
                size = file.seek(0, io.SEEK_END)
            rows = [
                {
                    "slot": member.slot,
                    "channel": member.channel.name,
                    "member": member.name,
                    "offset": member.offset,
                    "size": member.size,
                    "data_offset": member.data_offset,
                    "dtype": member.dtype,
                    "resolution": member.resolution,
                    "encoding": member.encoding,
                    "step": member.step,
                    "data_size": member.data_size,
                }
                for member in members
            ]
            bare = pa.schema([field.with_nullable(True) for field in INDEX_SCHEMA])  # noqa: FBT003
            table, version, digest = pa.Table.from_pylist(rows, schema=bare), "", ""
    except SdomlError as error:
        at_fault = shard.index.name if shard.index else name
        raise type(error)(
            f"{at_fault} in {files.root}: {error}; rebuild the shard or remove it"
        ) from error
    return Index(table, name, size, digest, version)


def _place(files: Files, cache_dir: str | os.PathLike[str] | None) -> Path | None:
    """Return the path of the generated index, or None if there is no folder for it."""
    if cache_dir is not None:
        return cache_folder(cache_dir, files.root) / KEPT_INDEX
    return Path(files.root) / KEPT_INDEX if isinstance(files, LocalFiles) else None


def _kept(
    path: Path | None,
) -> tuple[Catalog | None, pa.Table | None, dict[str, list[str]]]:
    """Read a saved index as a catalog and as a table, and its fingerprints by shard.

    Returns None, None and an empty dictionary if the index is missing or damaged.
    """
    nothing = None, None, dict[str, list[str]]()
    try:
        data = None if path is None else path.read_bytes()
    except OSError:
        return nothing
    if data is None:
        return nothing
    try:
        catalog = Catalog(data)
        table = read_columns(open_parquet(data))
        known = json.loads(table.schema.metadata.get(SOURCES.encode(), b"{}"))
    except (DamagedFileError, ValueError, RecursionError):
        return nothing
    return (catalog, table, known) if isinstance(known, dict) else nothing
