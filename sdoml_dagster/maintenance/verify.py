"""Verification: read a whole store and report damaged files.

Each file is compared with its record: raw files with the SHA-256 in the ledger, processed frames
with the CRC-32 in the frame table, shards with the SHA-256 in the index, and releases with their
SHA256SUMS. Tables, sketches, indexes and constants must be decodable.

A damaged file can be *moved aside*: it is moved to ``damaged/`` together with the small file that
marks its day as present, so that steps and schedules rebuild the day. Nothing is deleted, because a
damaged raw frame may still be better than the archive's current file.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, TypeVar

from zlib_ng.zlib_ng import crc32

from sdoml_core.channels import CHANNELS, INSTRUMENTS, Instrument
from sdoml_core.errors import DamagedFileError, NormalizationError, StoreError
from sdoml_core.formats.index import Index, decode_index
from sdoml_core.formats.ledger import FRAME_TABLE, RAW_LEDGER, FrameRow, RawRow
from sdoml_core.formats.release_files import RELEASE_CONSTANTS, RELEASE_INDEX, RELEASE_SUMS
from sdoml_core.formats.release_index import release_days
from sdoml_core.formats.sketch_file import decode_sketches
from sdoml_core.normalization.constants import from_json
from sdoml_dagster import asset_names
from sdoml_dagster.days import ALL_DAYS, DayRange
from sdoml_dagster.progress import Progress
from sdoml_dagster.store import layout
from sdoml_dagster.store.frame_file import NPY_HEADER_BYTES
from sdoml_dagster.store.store import Store
from sdoml_dagster.threads import ordered_map

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged file."""

    path: str
    reason: str
    remedy: str
    """The asset to materialize."""

    marker: str | None = None
    """The small file that marks the data as present. It is moved aside with the damaged file."""


@dataclass
class Verification:
    """Result of a verification: the numbers of files and bytes read, and the damaged files."""

    files: int = 0
    bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    hashes: dict[tuple[int, int], tuple[str, int]] = field(default_factory=dict)
    """SHA-256 and size of local shards by file identity. Release shards are links to these
    shards."""

    def include(self, other: "Verification") -> None:
        """Add the result of another part of the store."""
        self.files += other.files
        self.bytes += other.bytes
        self.damages += other.damages
        self.hashes |= other.hashes


def verify_store(
    store: Store,
    *,
    days: DayRange = ALL_DAYS,
    threads: int,
    report: Callable[[str], None],
) -> Verification:
    """Verify the files of all days in a range, the constants and the releases.

    In a release, only the shards that contain samples from these days are read. A hard link to a
    shard that was already read is not read again.
    """
    found = [day for day in layout.days_in(store) if day in days]
    outcome = Verification()
    progress = Progress("verify_store", len(found), report, unit="days")
    for part in ordered_map(
        functools.partial(_confirmed, verify_day, store), found, threads=threads, name="verify"
    ):
        outcome.include(part)
        progress.step("damaged" if part.damages else "ok")
    outcome.include(_verify_constants(store))
    for path in store.find(layout.RELEASES):
        if path.endswith(f"/{RELEASE_SUMS}"):
            outcome.include(_confirmed(_verify_release, store, path, days, outcome.hashes))
    return outcome


def _confirmed(check: Callable[..., Verification], *arguments: Any) -> Verification:
    """Run a check. If it finds damage, repeat it, because a file may have been rewritten."""
    found = check(*arguments)
    return check(*arguments) if found.damages else found


def verify_day(store: Store, day: date) -> Verification:
    """Read all files of one day."""
    outcome = Verification()
    for instrument in INSTRUMENTS:
        outcome.include(_verify_raw(store, day, instrument))
        outcome.include(_verify_processed(store, day, instrument))
    outcome.include(verify_shard(store, day)[0])
    return outcome


def verify_shard(store: Store, day: date) -> tuple[Verification, Index | None]:
    """Compare a day's shard with its index. Returns the index if both exist and are intact."""
    outcome = Verification()
    path, index_path = layout.shard(day), layout.shard_index(day)
    remedy = f"shards of {day}"
    index = _decoded(outcome, store, index_path, decode_index, remedy)
    if index is None:
        return outcome, None
    _verify_sha256(outcome, store, path, index.shard_sha256, remedy, marker=index_path)
    return outcome, None if outcome.damages else index


def move_aside(store: Store, damages: Iterable[Damage]) -> None:
    """Move damaged files and their markers to ``damaged/``."""
    for damage in damages:
        for path in (damage.marker, damage.path):
            if path is not None and store.exists(path):
                names = itertools.chain([path], (f"{path}.{n}" for n in itertools.count(2)))
                kept = next(name for name in names if not store.exists(layout.damaged(name)))
                store.move(path, layout.damaged(kept))


def _verify_raw(store: Store, day: date, instrument: Instrument) -> Verification:
    outcome = Verification()
    remedy = f"{asset_names.raw(instrument)} of {day}"
    ledger = layout.raw_ledger(day, instrument)
    rows: Sequence[RawRow] = _decoded(outcome, store, ledger, RAW_LEDGER.decode, remedy) or ()
    folder = layout.raw_folder(day)
    present = store.sizes(folder)
    held = [row for row in rows if row.status == "ok"]
    if not any(row.file in present for row in held):
        return outcome  # pruned
    for row in held:
        _verify_sha256(outcome, store, f"{folder}/{row.file}", str(row.sha256), remedy)
    return outcome


def _verify_processed(store: Store, day: date, instrument: Instrument) -> Verification:
    outcome = Verification()
    remedy = f"{asset_names.processed(instrument)} of {day}"
    table = layout.frame_table(day, instrument)
    rows: Sequence[FrameRow] | None = _decoded(outcome, store, table, FRAME_TABLE.decode, remedy)
    if rows is None:
        return outcome
    sketches = layout.sketches(day, instrument)
    found = _decoded(outcome, store, sketches, decode_sketches, remedy, marker=table)
    if found is None and not outcome.damages:
        outcome.damages.append(Damage(sketches, "the file is missing", remedy, table))
    for channel in sorted({row.channel for row in rows if row.status == "ok"}):
        mine = sorted(
            (row for row in rows if row.channel == channel and row.status == "ok"),
            key=lambda row: row.row or 0,
        )
        path = layout.processed_frames(day, CHANNELS[channel])
        reason = _damage_of_frames(outcome, store, path, mine)
        if reason is not None:
            outcome.damages.append(Damage(path, reason, remedy, table))
    return outcome


def _damage_of_frames(
    outcome: Verification, store: Store, path: str, rows: Sequence[FrameRow]
) -> str | None:
    """Describe the damage to a channel's ``.npy`` file. Returns ``None`` if it is intact."""
    try:
        with store.open(path) as file:
            size = file.seek(0, 2)
            outcome.files += 1
            outcome.bytes += size
            frame, rest = divmod(size - NPY_HEADER_BYTES, len(rows))
            if rest or frame <= 0:
                return f"{size} bytes is the wrong size for {len(rows)} frames"
            file.seek(NPY_HEADER_BYTES)
            for row in rows:
                if crc32(file.read(frame)) != row.crc32:
                    return f"frame {row.row} differs from the frame table"
    except (FileNotFoundError, StoreError) as error:
        return _why(error)
    return None


def _verify_constants(store: Store) -> Verification:
    outcome = Verification()
    for path in store.find(layout.NORMALIZATION):
        found = _decoded(outcome, store, path, from_json, "normalization_stats")
        named = path.removeprefix(f"{layout.NORMALIZATION}/").removesuffix(".json")
        if found is not None and named not in {"current", found.version}:
            reason = f"the file contains the constants of version {found.version}"
            outcome.damages.append(Damage(path, reason, "normalization_stats"))
    return outcome


def _verify_release(
    store: Store,
    sums: str,
    days: DayRange,
    hashes: Mapping[tuple[int, int], tuple[str, int]],
) -> Verification:
    outcome = Verification(hashes=dict(hashes))
    folder = sums.rpartition("/")[0]
    remedy = f"release {folder.removeprefix(f'{layout.RELEASES}/')}"
    listed = store.read_if_exists(sums)
    if listed is None:  # skip a release that is being written
        return outcome
    needed = {name for name in store.sizes(folder) if name.endswith(".tar")}
    needed |= {RELEASE_INDEX, RELEASE_CONSTANTS}
    others = _shards_of_other_days(store, f"{folder}/{RELEASE_INDEX}", days)
    for line in listed.decode(errors="replace").splitlines():
        sha256, _, name = line.partition("  ")
        if "/" in name or not name:
            outcome.damages.append(Damage(sums, f"invalid line {line!r}", remedy))
            continue
        needed.discard(name)
        if name not in others:
            _verify_sha256(outcome, store, f"{folder}/{name}", sha256, remedy, marker=sums)
    if needed:
        outcome.damages.append(Damage(sums, f"no checksum for {', '.join(sorted(needed))}", remedy))
    return outcome


def _shards_of_other_days(store: Store, index: str, days: DayRange) -> set[str]:
    """Return the release's shards that have no samples from the days. Empty if unknown."""
    if days == ALL_DAYS:
        return set()
    try:
        with store.open(index) as file:
            samples = release_days(file)
    except (DamagedFileError, FileNotFoundError):
        return set()  # the damaged index is reported separately
    return {name for name, found in samples.items() if not any(day in days for day in found)}


def _verify_sha256(
    outcome: Verification,
    store: Store,
    path: str,
    expected: str,
    remedy: str,
    *,
    marker: str | None = None,
) -> None:
    """Hash a file, and record damage if the hash differs from the expected one."""
    try:
        identity = store.file_identity(path)
        known = None if identity is None else outcome.hashes.get(identity)
        sha256, size = store.sha256_and_size(path) if known is None else known
    except (FileNotFoundError, StoreError) as error:
        outcome.damages.append(Damage(path, _why(error), remedy, marker))
        return
    outcome.files += 1
    outcome.bytes += 0 if known else size
    if identity is not None and path.endswith(".tar"):
        outcome.hashes[identity] = sha256, size
    if sha256 != expected:
        outcome.damages.append(
            Damage(path, "its SHA-256 differs from the recorded one", remedy, marker)
        )


def _decoded(
    outcome: Verification,
    store: Store,
    path: str,
    decode: Callable[[bytes], T],
    remedy: str,
    *,
    marker: str | None = None,
) -> T | None:
    """Decode a small file. Returns ``None`` if it is missing or damaged. Damage is recorded."""
    try:
        data = store.read_if_exists(path)
        if data is None:
            return None
        outcome.files += 1
        outcome.bytes += len(data)
        return decode(data)
    except (DamagedFileError, NormalizationError, StoreError) as error:
        outcome.damages.append(Damage(path, str(error), remedy, marker))
        return None


def _why(error: OSError) -> str:
    return "the file is missing" if isinstance(error, FileNotFoundError) else str(error)
