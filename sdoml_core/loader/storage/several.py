"""Several folders of shards as one, such as releases of different years."""

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa

from sdoml_core.formats.merge_indexes import merge_releases
from sdoml_core.formats.parquet import write_parquet
from sdoml_core.loader.storage.catalog import SOURCES, Catalog
from sdoml_core.loader.storage.local import Files, RangeFiles


class SeveralFiles:
    """Byte ranges of the shards of several folders.

    Parameters
    ----------
    parts
        The folders.
    places
        Folder of each shard and its name there, by its name in the merged catalog.
    """

    def __init__(self, parts: Sequence[RangeFiles], places: dict[str, tuple[int, str]]):
        self.root = ", ".join(part.root for part in parts)
        self._parts = list(parts)
        self._places = places

    def read_into(
        self, name: str, start: int, buffers: Sequence[memoryview], *, size: int | None, tag: str
    ) -> None:
        """Fill buffers in order with the bytes of a file from `start` on."""
        part, there = self._places[name]
        self._parts[part].read_into(there, start, buffers, size=size, tag=tag)


def merge(folders: Sequence[tuple[Files, Catalog]]) -> tuple[SeveralFiles, Catalog]:
    """Merge folders that share resolution, dtype and normalization, and no sample.

    Parameters
    ----------
    folders
        Each folder and its catalog.

    Raises
    ------
    NormalizationError
        If the shards were normalized with different constants.
    DamagedFileError
        If they differ in dtype or resolution, or a sample is in two folders.
    """
    places: dict[str, tuple[int, str]] = {}
    tables = []
    for number, (_, catalog) in enumerate(folders):
        # Shards of different releases may have the same names.
        names = {name: f"{number}-{name.replace('/', '-')}" for name in catalog.shards}
        places |= {new: (number, name) for name, new in names.items()}
        tables.append(_renamed(catalog.table(), names))

    def both(one: pa.Table, other: pa.Table) -> pa.Table:
        return merge_releases(one, set(one.column("shard").unique().to_pylist()), other)

    merged = Catalog(write_parquet(reduce(both, tables)))
    return SeveralFiles([files for files, _ in folders], places), merged


def _renamed(table: pa.Table, names: dict[str, str]) -> pa.Table:
    """Return the table of a release with renamed shards."""
    facts: dict[Any, Any] = dict(table.schema.metadata)
    shards = json.loads(facts[b"sdoml.shards"])
    facts[b"sdoml.shards"] = json.dumps([[names[name], *rest] for name, *rest in shards])
    listed = json.loads(facts.get(SOURCES.encode(), b"{}"))
    facts[SOURCES.encode()] = json.dumps({names[name]: mark for name, mark in listed.items()})
    owners = [names[name] for name in table.column("shard").to_pylist()]
    column = pa.array(owners, pa.string()).dictionary_encode()
    place = table.schema.get_field_index("shard")
    return table.set_column(place, "shard", column).replace_schema_metadata(facts)
