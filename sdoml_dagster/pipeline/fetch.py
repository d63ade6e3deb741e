"""Fetch the raw frames of a day.

For each (slot, channel), the paired minute is tried first. For AIA, the neighboring minutes are
tried next. Each candidate is looked up in the day's folder and then in the archive. The outcome
becomes one ledger row.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import cast

from sdoml_core.channels import CHANNELS, Channel, Instrument
from sdoml_core.errors import (
    DamagedFileError,
    DoubtfulFrameError,
    FrameError,
    FrameMissingError,
    FrameRefusedError,
    NotAnImageError,
    OutageError,
    WrongFrameError,
)
from sdoml_core.formats.ledger import RAW_LEDGER, RawRow, Status
from sdoml_core.frames.flags import flag_mask, is_provisional
from sdoml_core.kernel_cache import prepare_kernels
from sdoml_core.slots import candidate_minutes
from sdoml_dagster import asset_names
from sdoml_dagster.archive.address import public
from sdoml_dagster.archive.client import ArchiveClient
from sdoml_dagster.archive.inspection import RawFacts, inspect_frame
from sdoml_dagster.archive.tree import archive_path, file_name
from sdoml_dagster.progress import Progress
from sdoml_dagster.settings.model import Settings
from sdoml_dagster.store import layout
from sdoml_dagster.store.store import Store

_ALL_ALIKE = 3
"""If a channel has at least this many frames and all show the same picture, all are rejected."""


@dataclass(frozen=True, slots=True)
class DayLedger:
    """The outcome of fetching one instrument's frames for a day."""

    rows: tuple[RawRow, ...]
    fetched_files: int
    fetched_bytes: int
    warning: str | None = None
    """A problem that a person should check. It does not fail the day."""

    @property
    def content(self) -> bytes:
        """Bytes that identify the outcome: each frame's status and hash, but not its source."""
        fates = [(str(row.slot), row.channel, row.status, row.sha256) for row in self.rows]
        return repr(fates).encode()


def fetch_day(
    day: date,
    instrument: Instrument,
    *,
    settings: Settings,
    store: Store,
    client: ArchiveClient,
    report: Callable[[str], None],
) -> DayLedger:
    """Fetch one instrument's raw frames for a day into the store, and write their ledger.

    Valid frames in the store are not fetched again. If the ledger is older than
    ``missing_recheck_hours``, missing frames, stand-ins and provisional frames are requested again.
    Frames that failed because of an outage are always requested again.

    A web page instead of a file, or a refusal (403), is recorded as the outcome of that file only.
    If at least half of the day's requests end this way, or if requests for other files fail, these
    outcomes are recorded as an outage.

    Raises
    ------
    OutageError
        After the ledger is written, if some frames could not be requested because of an outage.
    """
    folder = layout.raw_folder(day)
    path = layout.raw_ledger(day, instrument)
    store.sweep(folder)
    earlier = _earlier_ledger(store, path)
    believed = earlier.age < timedelta(hours=settings.missing_recheck_hours)
    present = set(store.sizes(folder))
    collector = _Collector(settings, store, client, folder, path, present)

    def collect(expected: tuple[datetime, Channel]) -> tuple[RawRow, int]:
        slot, channel = expected
        row = earlier.rows.get((slot, channel.name))
        if row is not None and collector.still_holds(row, channel, believed=believed):
            return row, 0
        return collector.collect(slot, channel, row)

    wanted = [
        (slot, channel)
        for slot in settings.expected_slots(day)
        for channel in settings.channels_of(instrument)
    ]
    if any((slot, channel.name) not in earlier.rows for slot, channel in wanted):
        prepare_kernels(report)  # compile before the threads and the timing start
    progress = Progress(f"{asset_names.raw(instrument)} {day}", len(wanted), report)
    rows: list[RawRow] = []
    fetched: list[int] = []
    # Use three threads per connection, so that some can decode and store files while others use the
    # connections. With two threads per connection, connections are idle 3% of the time.
    pool = ThreadPoolExecutor(3 * client.connections, f"raw-{instrument}")
    try:
        for row, received in pool.map(collect, wanted):
            rows.append(row)
            fetched += [received] if received else []
            progress.step(row.status, received)
    except BaseException:
        client.cancel()
        # Do not wait, because a thread that is still connecting ends only at its timeout.
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
    rows, received_again = _replace_stale(rows, collector)
    fetched += received_again
    rows = _with_outages(rows, collector.unclear)
    same = earlier.content and rows == list(earlier.rows.values())
    content = earlier.content if same else RAW_LEDGER.encode(rows)
    # If nothing was requested again and nothing is new, keep the file's modification time, which
    # shows when the archive was last queried.
    if not believed or content != earlier.content:
        store.write(path, content)
    outages = [row for row in rows if row.status == "outage"]
    if outages:
        raise OutageError(
            f"{len(outages)} of {len(rows)} {instrument} frames of {day} could not be fetched. "
            f"The first error was: {outages[0].reason}. Fetched frames are kept: run the day again "
            f"later, or add another mirror to SDOML_{instrument}_ROOTS"
        )
    return DayLedger(
        tuple(rows),
        fetched_files=len(fetched),
        fetched_bytes=sum(fetched),
        warning=_doubt(day, instrument, rows, settings=settings, client=client),
    )


def _replace_stale(
    rows: Sequence[RawRow], collector: "_Collector"
) -> tuple[list[RawRow], list[int]]:
    """Reject frames that repeat the pixels of an earlier frame, and find stand-ins for them.

    No two exposures have the same noise in a million pixels, so the later file is a stale picture
    with a new name or header. Returns all rows, and the size of each file that was fetched as a
    stand-in.
    """
    rows, fetched = list(rows), []
    stale = _stale(rows)
    while stale:
        for number, original in stale.items():
            row = rows[number]
            collector.refuse(
                row.file or "", f"the same pixels as {original}: the archive served a stale frame"
            )
            rows[number], received = collector.collect(row.slot, CHANNELS[row.channel], None)
            fetched += [received] if received else []
        # A stand-in may also be stale. The loop ends because each file is rejected at most once.
        stale = _stale(rows)
    return rows, fetched


def _stale(rows: Sequence[RawRow]) -> dict[int, str]:
    """Find rows with the same pixels as an earlier file. Map row numbers to that file's name."""
    first: dict[tuple[str, int], RawRow] = {}
    seen = [row for row in rows if row.data_crc32 is not None and row.observed is not None]
    for row in sorted(seen, key=lambda row: (row.observed, row.file)):
        first.setdefault((row.channel, row.data_crc32 or 0), row)
    stale = {}
    for number, row in enumerate(rows):
        earliest = first.get((row.channel, row.data_crc32 or 0))
        if row.data_crc32 is not None and earliest is not None and earliest.file != row.file:
            stale[number] = earliest.file or ""
    for channel in {row.channel for row in seen}:
        files = {row.file: row.data_crc32 for row in seen if row.channel == channel}
        if len(files) >= _ALL_ALIKE and len(set(files.values())) == 1:
            # All files of the day show the same picture, and its correct slot is unknown.
            stale |= {n: "all others" for n, row in enumerate(rows) if row.file in files}
    return stale


def _with_outages(
    rows: Sequence[RawRow], unclear: Collection[tuple[datetime, str]]
) -> list[RawRow]:
    """Mark web pages and refusals as an outage if an outage is the likely cause.

    It is the likely cause if they affect at least half of the frames, or if other requests failed.
    """
    outage = any(row.status == "outage" for row in rows) or 2 * len(unclear) >= len(rows)
    return [
        replace(row, status="outage") if outage and (row.slot, row.channel) in unclear else row
        for row in rows
    ]


def _doubt(
    day: date,
    instrument: Instrument,
    rows: Sequence[RawRow],
    *,
    settings: Settings,
    client: ArchiveClient,
) -> str | None:
    """Return a warning if a whole published day is missing, because the root may be wrong."""
    published = datetime.now(UTC).date() - timedelta(days=settings.publication_lag_days)
    if not rows or day > published or any(row.status != "missing" for row in rows):
        return None
    roots = ", ".join(public(mirror.root) for mirror in client.mirrors)
    return (
        f"{asset_names.raw(instrument)} {day}: nothing was found at {roots}; "
        f"is SDOML_{instrument}_ROOTS right?"
    )


@dataclass(frozen=True, slots=True)
class _EarlierLedger:
    """The ledger of an earlier run. Empty if there is no ledger or if it is damaged."""

    content: bytes = b""
    rows: Mapping[tuple[datetime, str], RawRow] = field(default_factory=dict)
    age: timedelta = timedelta(0)


def _earlier_ledger(store: Store, path: str) -> _EarlierLedger:
    content = store.read_if_exists(path)
    if content is None:
        return _EarlierLedger()
    try:
        rows = RAW_LEDGER.decode(content)
    except DamagedFileError:
        return _EarlierLedger()
    return _EarlierLedger(
        content,
        {(row.slot, row.channel): row for row in rows},
        datetime.now(UTC) - store.modified(path),
    )


@dataclass
class _Collector:
    """Finds a day's frames. All threads that fetch the day share one instance."""

    settings: Settings
    store: Store
    client: ArchiveClient
    folder: str
    ledger: str
    present: set[str]
    refused: dict[str, str] = field(default_factory=dict)
    """Files that must not be used, with the reasons."""
    unclear: set[tuple[datetime, str]] = field(default_factory=set)
    """Slots and channels for which each mirror returned a web page or a refusal."""

    def refuse(self, name: str, reason: str) -> None:
        """Exclude a file from further use."""
        self.refused[name] = reason

    def still_holds(self, row: RawRow, channel: Channel, *, believed: bool) -> bool:
        """Return whether the row from an earlier run is still valid."""
        if row.status == "ok" and row.flags is None:
            return False  # the row was written by a version that rejected fewer frames
        minutes = self._candidates(row.slot, channel)
        names = [file_name(channel, minute) for minute in minutes]
        if row.status != "ok":
            # With a different tolerance or root, the outcome may be different.
            alike = row.candidates == len(names) and row.url == self._address(channel, minutes[0])
            return believed and row.status != "outage" and alike
        if row.file not in names or row.file not in self.present:
            return False
        if not believed and (row.file != names[0] or is_provisional(row.flags)):
            return False
        path = f"{self.folder}/{row.file}"
        if row.bytes and self.store.unchanged_since(path, self.ledger, size=row.bytes):
            return True
        data = self.store.read(path)
        return hashlib.sha256(data).hexdigest() == row.sha256

    def collect(
        self, slot: datetime, channel: Channel, earlier: RawRow | None
    ) -> tuple[RawRow, int]:
        """Return the row of one expected frame, and the number of bytes fetched for it.

        ``earlier`` is the row of an earlier run, which must be checked again.
        """
        failures: list[_Failure] = []
        minutes = self._candidates(slot, channel)
        # Re-request files that are provisional, and files in the store that were rejected.
        renew = earlier is not None and (
            is_provisional(earlier.flags) or earlier.status == "invalid"
        )
        for minute in minutes:
            try:
                data, facts, received = self._frame(channel, minute, renew=renew)
            except FrameMissingError as error:
                refused = isinstance(error, FrameRefusedError)
                failures.append(_Failure(minute, "missing", str(error), unclear=refused))
            except FrameError as error:
                page = isinstance(error, NotAnImageError)
                failures.append(_Failure(minute, error.status, str(error), unclear=page))
            except OutageError as error:
                failures.append(_Failure(minute, "outage", str(error)))
                break
            else:
                row = RawRow(
                    slot,
                    channel.name,
                    "ok",
                    file=file_name(channel, minute),
                    url=self._address(channel, minute),
                    bytes=len(data),
                    sha256=hashlib.sha256(data).hexdigest(),
                    observed=facts.observed,
                    exposure=facts.exposure,
                    quality=facts.quality,
                    rsun_obs=facts.rsun_obs,
                    candidates=len(minutes),
                    reason=f"stands in: {_listed(failures)}" if failures else None,
                    flags=flag_mask(facts.flags),
                    data_crc32=facts.data_crc32,
                )
                return row, received
        # After an outage, the row has the status `outage`. Otherwise, it records the outcome of the
        # paired minute.
        outcome = failures[-1] if failures[-1].status == "outage" else failures[0]
        if outcome.unclear:
            self.unclear.add((slot, channel.name))
        row = RawRow(
            slot,
            channel.name,
            outcome.status,
            url=self._address(channel, outcome.minute),
            candidates=len(minutes),
            reason=_listed(failures),
        )
        return row, 0

    def _candidates(self, slot: datetime, channel: Channel) -> Sequence[datetime]:
        return candidate_minutes(
            channel,
            slot,
            tolerance_minutes=self.settings.aia_tolerance_minutes,
            cadence_minutes=self.settings.cadence_minutes,
        )

    def _address(self, channel: Channel, minute: datetime) -> str:
        return f"{public(self.client.mirrors[0].root)}/{archive_path(channel, minute)}"

    def _frame(
        self, channel: Channel, minute: datetime, *, renew: bool
    ) -> tuple[bytes, RawFacts, int]:
        """Get a good frame from the folder or the archive.

        With ``renew``, try the archive first.
        """
        name = file_name(channel, minute)
        if name in self.refused:
            raise WrongFrameError(self.refused[name])
        path = f"{self.folder}/{name}"
        check = partial(
            inspect_frame,
            channel=channel,
            minute=minute,
            max_missing_fraction=self.settings.max_missing_fraction,
        )
        stored: tuple[bytes, RawFacts] | None = None
        if name in self.present:
            data = self.store.read(path)
            try:
                stored = data, check(data)
            except DoubtfulFrameError as error:
                stored, renew = (data, cast("RawFacts", error.value)), True
            except FrameError:
                pass  # fetch a damaged file again
        if stored is not None and not renew:
            return stored[0], _usable(stored[1]), 0
        try:
            fetched = self.client.fetch(archive_path(channel, minute), check)
            facts = _usable(fetched.value)
        except (FrameError, FrameMissingError, OutageError):
            if stored is None:
                raise
            return stored[0], _usable(stored[1]), 0  # no better frame is available now
        self.store.write(path, fetched.data)
        return fetched.data, facts, len(fetched.data)


@dataclass(frozen=True, slots=True)
class _Failure:
    """The reason why a candidate cannot be the frame of a slot."""

    minute: datetime
    status: Status
    reason: str
    unclear: bool = False
    """Whether the response was a web page or a refusal, which says nothing about the frame."""


def _listed(failures: Sequence[_Failure]) -> str:
    return "; ".join(f"{failure.minute:%H:%M} {failure.reason}" for failure in failures)


def _usable(facts: RawFacts) -> RawFacts:
    if facts.flaw is not None:
        raise facts.flaw
    return facts
