"""Fetch and process the new frames of one hour."""

import hashlib
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from sdoml_core.channels import CHANNELS, Instrument
from sdoml_core.errors import (
    FrameError,
    FrameMissingError,
    FrameRefusedError,
    OutageError,
    WrongFrameError,
)
from sdoml_core.formats.ledger import RawRow, Status
from sdoml_core.formats.live_table import LiveRow, thumbnail
from sdoml_core.frames.flags import flag_mask
from sdoml_dagster.archive.address import public
from sdoml_dagster.archive.client import ArchiveClient, Fetched
from sdoml_dagster.archive.inspection import RawFacts, inspect_frame
from sdoml_dagster.archive.listing import listed_names
from sdoml_dagster.archive.tree import live_folder, live_path
from sdoml_dagster.pipeline.live.waiting import STAND_IN_AGE, candidates, wanted
from sdoml_dagster.pipeline.process import FrameProcessor
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

PROVISIONAL = flag_mask(["provisional"])


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of requesting the frames of an hour."""

    rows: tuple[LiveRow, ...]
    """Rows that changed."""

    outage: OutageError | None = None
    """The reason why some requests failed, or None if none failed."""


def collect_hour(
    hour: datetime,
    instrument: Instrument,
    rows: Sequence[LiveRow],
    *,
    settings: Settings,
    store: Store,
    client: ArchiveClient,
    now: datetime,
) -> Collected:
    """For one hour, fetch and process the frames that are new or better than the current frames.

    The hour's listing shows which AIA frames exist. HMI frames are requested directly, because a
    listing of the catalog is larger than a frame. This function writes the frames to the store. The
    caller writes the table.

    Parameters
    ----------
    hour, instrument
        The hour and the instrument whose frames are collected.
    rows
        The rows for this hour and instrument whose slots are not in the future.
    settings, store, client
        The dataset's settings and store, and a client for the archive.
    now
        The current time (UTC).
    """
    open_rows = [row for row in rows if wanted(settings, row)]
    if not open_rows:
        return Collected(())
    names: Collection[str] | None = None
    if instrument == "AIA":
        try:
            names = listed_names(client.poll(live_folder(hour)))
        except FrameRefusedError:
            pass  # the server has no listings
        except FrameMissingError:
            return Collected(())
        except OutageError as error:
            return Collected((), error)
    processor = FrameProcessor(hour.date(), settings, store)
    worker = _Collector(settings, store, client, names, now, _known_pixels(rows), processor)
    changed: list[LiveRow] = []
    outage: OutageError | None = None
    with ThreadPoolExecutor(2 * client.connections, "live") as pool:
        for before, after in zip(open_rows, pool.map(worker.collect, open_rows), strict=True):
            if isinstance(after, OutageError):
                outage = after
            elif after != before:
                changed.append(after)
    return Collected(tuple(_without_stale(changed, store)), outage)


def _known_pixels(rows: Iterable[LiveRow]) -> dict[tuple[str, int], str]:
    """Map the channel and pixel checksum of each frame of an hour to its file name."""
    return {
        (row.channel, row.data_crc32): row.file or "" for row in rows if row.data_crc32 is not None
    }


def _without_stale(rows: Sequence[LiveRow], store: Store) -> list[LiveRow]:
    """Reject new frames that repeat the pixels of another new frame for an earlier slot."""
    first: dict[tuple[str, int], str] = {}
    kept = []
    for row in sorted(rows, key=lambda row: (row.slot, row.channel)):
        key = (row.channel, row.data_crc32 or 0)
        if row.status == "ok" and first.setdefault(key, row.file or "") != row.file:
            store.delete(layout.live_frame(row.slot, row.channel))
            kept.append(_stale(row, first[key]))
        else:
            kept.append(row)
    return kept


def _stale(row: LiveRow, original: str) -> LiveRow:
    reason = f"the same pixels as {original}: the archive served a stale frame"
    empty = LiveRow(row.slot, row.channel, "invalid", reason=reason, rejected=row.rejected)
    return _rejecting(empty, row.file or "")


class _StaleFrameError(WrongFrameError):
    """The archive served an earlier image under a new name."""


@dataclass
class _Collector:
    """Collects single frames. Several threads share one instance."""

    settings: Settings
    store: Store
    client: ArchiveClient
    names: Collection[str] | None
    """Names of the files in the hour's folder, or None if they are unknown."""
    now: datetime
    known: dict[tuple[str, int], str]
    processor: FrameProcessor

    def collect(self, row: LiveRow) -> LiveRow | OutageError:
        """Return the row with the best frame that the archive currently has."""
        failed: list[tuple[Status, str]] = []
        for minute, name in self._to_try(row):
            problem = self._known_problem(row, name)
            if problem is not None:
                failed.append((problem[0], f"{minute:%H:%M} {problem[1]}"))
                continue
            try:
                fetched = self._fetch(row, minute, name)
            except FrameMissingError as error:
                failed.append(("missing", f"{minute:%H:%M} {error}"))
            except FrameError as error:
                failed.append((error.status, f"{minute:%H:%M} {error}"))
                # Do not reject an invalid file: the archive may still be writing it, or the
                # transfer may have failed.
                if isinstance(error, _StaleFrameError) or error.status != "invalid":
                    row = _rejecting(row, name)
            except OutageError as error:
                return error
            else:
                stands_in = "; ".join(reason for _, reason in failed)
                return self._processed(row, fetched, minute, name, stands_in)
        if row.status == "ok" or not failed:
            return row
        reason = "; ".join(reason for _, reason in failed)
        return replace(row, status=failed[0][0], reason=reason)

    def _to_try(self, row: LiveRow) -> Iterator[tuple[datetime, str]]:
        """Yield the frames that are better than the current frame, best first."""
        for place, (minute, name) in enumerate(candidates(self.settings, row)):
            if row.status == "ok" and row.file == name:
                return
            if place and self.now - row.slot < STAND_IN_AGE and not self._first_is_rejected(row):
                return  # the correct frame may still appear
            yield minute, name

    def _known_problem(self, row: LiveRow, name: str) -> tuple[Status, str] | None:
        """Return why a frame should not be requested, as a status and a reason, or None."""
        if name in row.rejects:
            return "invalid", "was rejected"
        if self.names is not None and name not in self.names:
            return "missing", "not in the archive"
        return None

    def _fetch(self, row: LiveRow, minute: datetime, name: str) -> Fetched[RawFacts]:
        """Fetch a frame and check that it may be used."""
        channel = CHANNELS[row.channel]
        check = partial(
            inspect_frame,
            channel=channel,
            minute=minute,
            max_missing_fraction=self.settings.max_missing_fraction,
        )
        fetched = self.client.fetch(live_path(channel, minute), check)
        if fetched.value.flaw is not None:
            raise fetched.value.flaw
        earlier = self.known.get((row.channel, fetched.value.data_crc32 or 0), name)
        if earlier != name:
            raise _StaleFrameError(
                f"the same pixels as {earlier}: the archive served a stale frame"
            )
        return fetched

    def _first_is_rejected(self, row: LiveRow) -> bool:
        return candidates(self.settings, row)[0][1] in row.rejects

    def _processed(
        self,
        row: LiveRow,
        fetched: Fetched[RawFacts],
        minute: datetime,
        name: str,
        stands_in: str,
    ) -> LiveRow:
        """Process a frame, write it, and return its row."""
        channel, facts, data = CHANNELS[row.channel], fetched.value, fetched.data
        raw = RawRow(
            row.slot,
            row.channel,
            "ok",
            observed=facts.observed,
            exposure=facts.exposure,
            quality=facts.quality,
            rsun_obs=facts.rsun_obs,
            reason=f"stands in: {stands_in}" if stands_in else None,
            flags=flag_mask(facts.flags) | PROVISIONAL,
        )
        frame = self.processor.process(raw, data, channel)
        about: dict[str, Any] = asdict(frame.row)
        if frame.pixels is None:
            return _rejecting(LiveRow(**about, rejected=row.rejected), name)
        about["flags"] = (about["flags"] or 0) | PROVISIONAL
        about["row"] = 0
        sink = io.BytesIO()
        np.save(sink, frame.pixels.astype("<f4", copy=False))
        self.store.write(layout.live_frame(row.slot, row.channel), sink.getvalue())
        return LiveRow(
            **about,
            file=name,
            url=f"{public(self.client.mirrors[0].root)}/{live_path(channel, minute)}",
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            data_crc32=facts.data_crc32,
            published=fetched.published or self.now,
            rejected=row.rejected,
            thumbnail=thumbnail(frame.pixels),
        )


def _rejecting(row: LiveRow, name: str) -> LiveRow:
    """Return the row with a file marked as rejected, so that the file is not requested again."""
    return replace(row, rejected=",".join(sorted({*row.rejects, name})))
