"""Record of the last build of a release, so that the next build reads only changed files.

The record contains the properties of each daily index and each shard, and the counts of each day,
with the SHA-256 of the files that they were computed from. A build compares these hashes with the
current files and recomputes what does not match, so the result does not depend on the record. The
record is in the folder ``cache``, which may be deleted at any time.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

import numpy as np

from sdoml_core import __version__
from sdoml_core.formats.release_index import ShardFacts
from sdoml_dagster.release.built_days import BuiltDay
from sdoml_dagster.release.coverage import Count, DayCounts
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

_FORMAT = f"1 {__version__}"
"""Records with another format or version are ignored."""

_COUNTS = [field.name for field in fields(Count) if field.name != "day"]
_COMMON = ("normalization_version", "constants", "dtype", "resolution", "encoding", "bright")
"""Properties that almost all shards share, so they are written only once."""


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """What the last build of a release read and wrote. Empty if there was no build."""

    sums: str = ""
    """SHA-256 of SHA256SUMS, which identifies the release that was written."""

    days: Mapping[date, BuiltDay] = field(default_factory=dict)
    counts: Mapping[date, DayCounts] = field(default_factory=dict)
    shards: Mapping[str, ShardFacts] = field(default_factory=dict)
    """Properties of each shard, by the fingerprint of its inputs."""


def read_record(store: Store, name: str) -> ReleaseRecord:
    """Read a release's record. Returns an empty record if it is missing, damaged or old."""
    data = store.read_if_exists(layout.release_record(name)) or b""
    digest, _, packed = data.partition(b"\n")
    if digest != hashlib.sha256(packed).hexdigest().encode():
        return ReleaseRecord()
    content = json.loads(zlib.decompress(packed))
    return _decoded(content) if content["format"] == _FORMAT else ReleaseRecord()


def write_record(store: Store, name: str, record: ReleaseRecord) -> None:
    """Write the record of a release."""
    packed = zlib.compress(json.dumps(_encoded(record), separators=(",", ":")).encode(), 1)
    data = hashlib.sha256(packed).hexdigest().encode() + b"\n" + packed
    store.write(layout.release_record(name), data)


def _encoded(record: ReleaseRecord) -> dict[str, Any]:
    common: dict[str, int] = {}

    def of(facts: ShardFacts) -> list[Any]:
        shared = json.dumps([_plain(getattr(facts, name)) for name in _COMMON])
        return [
            facts.shard,
            facts.bytes,
            facts.sha256,
            dict(facts.frames),
            *(None if slot is None else str(slot) for slot in (facts.first, facts.last)),
            common.setdefault(shared, len(common)),
        ]

    days = {
        day.isoformat(): [
            built.index_sha256,
            of(built.facts),
            built.inputs,
            dict(built.frames),
            built.complete,
        ]
        for day, built in record.days.items()
    }
    counts = {
        day.isoformat(): [
            one.key,
            [[getattr(count, name) for name in _COUNTS] for count in one.counts],
            sorted(one.degradation_tables),
        ]
        for day, one in record.counts.items()
    }
    return {
        "format": _FORMAT,
        "sums": record.sums,
        "days": days,
        "counts": counts,
        "shards": {inputs: of(facts) for inputs, facts in record.shards.items()},
        "common": list(common),
    }


def _decoded(content: Mapping[str, Any]) -> ReleaseRecord:
    common = [dict(zip(_COMMON, json.loads(text), strict=True)) for text in content["common"]]

    def facts(row: Sequence[Any]) -> ShardFacts:
        shard, size, sha256, frames, first, last, number = row
        return ShardFacts(
            shard=shard,
            bytes=size,
            sha256=sha256,
            frames=frames,
            first=None if first is None else np.datetime64(first, "s"),
            last=None if last is None else np.datetime64(last, "s"),
            **common[number],
        )

    days = {}
    for text, (sha256, row, inputs, frames, complete) in content["days"].items():
        day = date.fromisoformat(text)
        chosen = None if complete is None else tuple(complete)
        days[day] = BuiltDay(day, facts(row), inputs, frames, chosen, sha256)
    counts = {}
    for text, (key, rows, tables) in content["counts"].items():
        day = date.fromisoformat(text)
        found = tuple(Count(day, **dict(zip(_COUNTS, row, strict=True))) for row in rows)
        counts[day] = DayCounts(key, found, frozenset(tables))
    shards = {inputs: facts(row) for inputs, row in content["shards"].items()}
    return ReleaseRecord(content["sums"], days, counts, shards)


def _plain(value: Any) -> Any:
    return {name: dict(one) for name, one in value.items()} if isinstance(value, Mapping) else value
