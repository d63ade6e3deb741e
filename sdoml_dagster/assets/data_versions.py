"""Content-based data versions: if a rebuilt day has the same content, nothing becomes stale."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import CODE_VERSION_TAG

from sdoml_dagster.assets.version_tags import Input, version_tags
from sdoml_dagster.latest_events import LatestOfRun

CONTENT = "content"
"""Metadata entry with the hash of a day's content."""

FORMER_VERSION = "former_data_version"
"""Metadata entry of a damaged day, with the data version before the damage."""

PICTURE = "contact_sheet"
"""Metadata entry with the picture of a day. In a range, only the last event of a day has this
entry, because the picture makes up most of an event's size."""


def content_hash(content: bytes) -> str:
    """Return the hash of a day's content. In a run of one day, it is the data version."""
    return hashlib.sha256(content).hexdigest()


class DayResults:
    """Records the days that a run finishes, and derives the data version of the run.

    If a day has the same content as its last materialization, it keeps that materialization's data
    version, so nothing downstream becomes stale. This matters after a run over a range: Dagster has
    only one data version per asset and run, which for a range is a hash of all its days.

    In a range, each day is also recorded as soon as it is finished, so that the record exists even
    if the run fails or is killed later.
    """

    def __init__(self, context: dg.AssetExecutionContext, days: Sequence[date]) -> None:
        self._context = context
        self._range = len(days) > 1
        keys = [day.isoformat() for day in days]
        self._last = LatestOfRun(context.instance, context.asset_key, keys)
        self._hashes: dict[str, str] = {}
        self._unchanged: set[date] = set()
        self._kept: set[str | None] = set()

    @property
    def is_empty(self) -> bool:
        """Return whether no day has been finished yet."""
        return not self._hashes

    def report(self, line: str) -> None:
        """Log a line about a day. In a range, do nothing: its progress is logged instead."""
        if not self._range:
            self._context.log.info(line)

    def is_unchanged(self, day: date) -> bool:
        """Return whether a finished day kept its existing files."""
        return day in self._unchanged

    def add(
        self,
        day: date,
        content: bytes,
        metadata: Mapping[str, Any],
        *,
        picture: Callable[[], dg.MetadataValue | None] | None = None,
        unchanged: bool = False,
    ) -> None:
        """Record a finished day and the metadata that the UI shows.

        Parameters
        ----------
        day
            The finished day.
        content
            Identifies what was built. Equal contents get the same data version.
        metadata
            Entries for the UI, except the picture.
        picture
            Draws the picture of the day. An unchanged day keeps its last picture.
        unchanged
            Whether the files of an earlier run were kept.
        """
        if unchanged:
            self._unchanged.add(day)
        key, digest = day.isoformat(), content_hash(content)
        last = self._last_of_same_content(key, digest)
        shown = self._picture(last if unchanged else None, picture)
        entries = {**shown, **metadata, CONTENT: digest}
        self._context.add_asset_metadata(entries, partition_key=key)
        kept = None if last is None else _data_version(last)
        self._hashes[key] = digest
        self._kept.add(kept)
        # Dagster records each day again, with all inputs, at the end of the run.
        if self._range and not (kept and self._has_this_code(key)):
            lean = {name: value for name, value in entries.items() if name != PICTURE}
            self._context.log_event(
                dg.AssetMaterialization(
                    self._context.asset_key,
                    metadata=lean,
                    partition=key,
                    tags=self._tags(key, kept or digest),
                )
            )

    def result(self) -> dg.MaterializeResult[Any]:
        """Return the result of the asset, once all days have been added."""
        hashes = list(self._hashes.values())
        kept = next(iter(self._kept)) if len(self._kept) == 1 else None
        if kept is None:
            kept = hashes[0] if len(hashes) == 1 else content_hash("".join(hashes).encode())
        return dg.MaterializeResult(data_version=dg.DataVersion(kept))

    def _picture(
        self,
        last: dg.AssetMaterialization | None,
        draw: Callable[[], dg.MetadataValue | None] | None,
    ) -> dict[str, dg.MetadataValue]:
        """Return the picture of the last materialization, or draw one."""
        picture = last.metadata.get(PICTURE) if last else None
        if picture is None and draw is not None:
            picture = draw()
        return {} if picture is None else {PICTURE: picture}

    def _last_of_same_content(self, key: str, digest: str) -> dg.AssetMaterialization | None:
        """Return the last materialization of a day if it had the same content."""
        last = self._last_materialization(key)
        recorded = last.metadata.get(CONTENT) if last else None
        return last if recorded is not None and recorded.value == digest else None

    def _has_this_code(self, key: str) -> bool:
        """Return whether the last materialization has the current code version."""
        last = self._last_materialization(key)
        return last is not None and (last.tags or {}).get(CODE_VERSION_TAG) == self._code_version

    @property
    def _code_version(self) -> str:
        graph = self._context.job_def.asset_layer.asset_graph
        return str(graph.get(self._context.asset_key).code_version)

    def _last_materialization(self, key: str) -> dg.AssetMaterialization | None:
        record = self._last.get(key)
        return record.asset_materialization if record else None

    def _tags(self, key: str, version: str) -> dict[str, str]:
        context, asset = self._context, self._context.asset_key
        graph = context.job_def.asset_layer.asset_graph
        inputs = {}
        for dep in graph.get(asset).parent_keys:
            node = graph.get(dep)
            record = context.instance.get_latest_data_version_record(
                dep, node.is_external, key if node.is_partitioned else None
            )
            inputs[dep] = Input.of(record)
        return version_tags(version, self._code_version, inputs)


def _data_version(last: dg.AssetMaterialization) -> str | None:
    former = last.metadata.get(FORMER_VERSION)
    return str(former.value) if former else (last.tags or {}).get("dagster/data_version")
