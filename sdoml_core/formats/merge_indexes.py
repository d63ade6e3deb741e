"""Merge two release indexes, so that a growing folder is not read again completely."""

import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa

from sdoml_core.channels import CHANNELS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.parquet import index_metadata, timestamps
from sdoml_core.formats.release_index import check_versions, only_value


def merge_releases(old: pa.Table, keep: Collection[str], new: pa.Table) -> pa.Table:
    """Merge some shards of an old index with all shards of a new one.

    Parameters
    ----------
    old, new
        Tables as written by `sdoml_core.formats.release_index.consolidate`.
    keep
        Names of the shards of `old` to keep.

    Raises
    ------
    NormalizationError, DamagedFileError
        As in `sdoml_core.formats.release_index.consolidate`.
    """
    kept = [name in keep for name in old.column("shard").to_pylist()]
    facts = [index_metadata(table.schema, kind="release") for table in (old, new)]
    shards = [shard for shard in json.loads(facts[0]["sdoml.shards"]) if shard[0] in keep]
    shards += json.loads(facts[1]["sdoml.shards"])
    parts = [(old.filter(pa.array(kept, pa.bool_())), facts[0]), (new, facts[1])]
    parts = [part for part in parts if len(part[0])] or parts[1:]
    version = check_versions(
        (fact["sdoml.normalization"], shard)
        for part, fact in parts
        for shard in part.column("shard").unique().to_pylist()
    )
    pixels = only_value(
        {
            fact["sdoml.pixels"]: part.column("shard")[0].as_py() if len(part) else ""
            for part, fact in parts
        },
        "dtype or resolution",
    )
    constants: dict[str, Any] = {}
    for part, fact in parts:
        for name, constant in json.loads(fact["sdoml.channels"]).items():
            if part.column(name).null_count == len(part):
                continue  # its shards were removed
            if constants.setdefault(name, constant) != constant:
                raise DamagedFileError(f"shards differ in the constant of {name}")
    table = pa.concat_tables([part for part, _ in parts], promote_options="permissive")
    table = table.select(["slot", "shard", *(name for name in CHANNELS if name in constants)])
    slots = timestamps(table.column("slot"))
    order = np.argsort(slots, kind="stable")
    if np.any(np.diff(slots[order].astype(np.int64)) == 0):
        raise DamagedFileError("a sample is in more than one shard")
    return (
        table.unify_dictionaries()
        .combine_chunks()
        .take(pa.array(order))
        .replace_schema_metadata(
            facts[1]
            | {
                "sdoml.normalization": version,
                "sdoml.pixels": pixels,
                "sdoml.channels": json.dumps(constants, sort_keys=True),
                "sdoml.shards": json.dumps(sorted(shards)),
            }
        )
    )
