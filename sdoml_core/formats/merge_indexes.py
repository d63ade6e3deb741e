"""Merge two release indexes, so that a growing folder does not have to be reread in full."""

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
    """Merge the given shards of an old release index with all shards of a new index.

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
    for name in CHANNELS:
        found = {
            json.dumps(json.loads(fact["sdoml.channels"])[name], sort_keys=True): shard
            for part, fact in parts
            for shard in _first_shard(part, name)
        }
        only = only_value(found, f"the constant of {name}")
        if only is not None:
            constants[name] = json.loads(only)
    table = pa.concat_tables([part for part, _ in parts], promote_options="permissive")
    table = table.select(["slot", "shard", *(name for name in CHANNELS if name in constants)])
    slots = timestamps(table.column("slot"))
    order = np.argsort(slots, kind="stable")
    twice = np.flatnonzero(np.diff(slots[order].astype(np.int64)) == 0)
    if len(twice):
        one, other = (table.column("shard")[int(order[twice[0] + i])].as_py() for i in (0, 1))
        slot = slots[order[twice[0]]].astype("datetime64[s]")
        raise DamagedFileError(f"sample {slot} is in both {one} and {other}")
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


def _first_shard(part: pa.Table, channel: str) -> list[str]:
    """Return the first shard that has frames of a channel, or an empty list."""
    if channel not in part.schema.names or part.column(channel).null_count == len(part):
        return []
    present = part.column(channel).is_valid().to_numpy(zero_copy_only=False)
    return [part.column("shard")[int(np.argmax(present))].as_py()]
