"""Data versions of days by their content: what comes out the same leaves nothing stale."""

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg

_CONTENT = "content"
"""Metadata entry with the hash of what a day came to."""


class DayContents:
    """Hashes of what the days of a run came to, and the data version that they make.

    A day whose content is what its last materialization recorded keeps that one's data version,
    so that nothing downstream turns stale. It matters after a run over a range: Dagster has one
    data version per asset and run, which there is a hash of all its days.
    """

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._hashes: dict[str, str] = {}

    def add(self, day: date, content: bytes, metadata: Mapping[str, Any]) -> None:
        """Record a finished day and what the UI shows of it."""
        digest = hashlib.sha256(content).hexdigest()
        self._hashes[day.isoformat()] = digest
        self._context.add_asset_metadata(
            {**metadata, _CONTENT: digest}, partition_key=day.isoformat()
        )

    def result(self) -> dg.MaterializeResult[Any]:
        """What the asset returns at its end."""
        hashes = list(self._hashes.values())
        version = self._kept()
        if version is None:
            one = hashes[0] if len(hashes) == 1 else None
            version = one or hashlib.sha256("".join(hashes).encode()).hexdigest()
        return dg.MaterializeResult(data_version=dg.DataVersion(version))

    def _kept(self) -> str | None:
        """The version that all days already have with this very content."""
        versions = set()
        for key, digest in self._hashes.items():
            materialization = self._last(key)
            if materialization is None:
                return None
            recorded = materialization.metadata.get(_CONTENT)
            if recorded is None or recorded.value != digest:
                return None
            versions.add((materialization.tags or {}).get("dagster/data_version"))
        return versions.pop() if len(versions) == 1 else None

    def _last(self, key: str) -> dg.AssetMaterialization | None:
        records = self._context.instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=self._context.asset_key, asset_partitions=[key]),
            limit=1,
        ).records
        return records[0].asset_materialization if records else None
