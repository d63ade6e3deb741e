"""Pruning: delete the raw frames of days whose shards are complete and intact.

With the default settings, raw frames take up about a third of a store. Their ledgers are kept, so
materializing ``raw_aia`` or ``raw_hmi`` for a pruned day fetches the same files again.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from sdoml_core.channels import INSTRUMENTS
from sdoml_core.errors import DamagedFileError
from sdoml_core.formats.ledger import RawRow
from sdoml_dagster.days import DayRange, list_days
from sdoml_dagster.formatting import counted
from sdoml_dagster.maintenance.verify import verify_shard
from sdoml_dagster.pipeline.completeness import frames_not_packed
from sdoml_dagster.progress import Progress
from sdoml_dagster.store import layout
from sdoml_dagster.store.day import StoredDay
from sdoml_dagster.store.store import Store


@dataclass(frozen=True, slots=True)
class PrunedDay:
    """The deleted raw frames of one day. In a dry run, the frames that would be deleted."""

    day: date
    files: int = 0
    bytes: int = 0
    kept_because: str | None = None
    """Reason for keeping the raw frames, or ``None`` if they are deleted."""


def prune_raw(
    store: Store,
    *,
    days: DayRange,
    dry_run: bool,
    report: Callable[[str], None],
) -> list[PrunedDay]:
    """Delete the raw frames of all days in a range whose shards are complete and intact.

    A day keeps its raw frames if its shard is missing or damaged, if its ledger has an outage, or
    if a good raw frame is not in the shard and was not rejected during processing. Files that are
    not in a ledger are kept.
    """
    found = [day for day in layout.days_in(store) if day in days]
    progress = Progress("prune_raw", len(found), report, unit="days")
    outcomes = []
    for day in found:
        outcome = _prune_day(store, day, dry_run=dry_run)
        kept = outcome is not None and outcome.kept_because is not None
        progress.step("kept" if kept else "ok")
        if outcome is not None:
            outcomes.append(outcome)
    for reason, group in kept_days(outcomes).items():
        report(f"prune_raw: kept the raw frames of {list_days(group)}, because {reason}")
    return outcomes


def kept_days(outcomes: Iterable[PrunedDay]) -> dict[str, list[date]]:
    """Group the days that keep their raw frames by reason."""
    groups: dict[str, list[date]] = {}
    for outcome in outcomes:
        if outcome.kept_because is not None:
            groups.setdefault(outcome.kept_because, []).append(outcome.day)
    return groups


def _prune_day(store: Store, day: date, *, dry_run: bool) -> PrunedDay | None:
    """Prune one day. Returns ``None`` if the day has no raw frames."""
    folder = layout.raw_folder(day)
    present = store.sizes(folder)
    rows: list[RawRow] = []
    try:
        for instrument in INSTRUMENTS:
            rows += StoredDay(store, day).ledger(instrument) or ()
        held = sorted({row.file for row in rows if row.file in present and row.file})
        if not held:
            return None
        reason = _reason_to_keep(store, day, rows)
    except DamagedFileError as error:
        return PrunedDay(day, kept_because=str(error))
    if reason is not None:
        return PrunedDay(day, kept_because=reason)
    if not dry_run:
        for name in held:
            store.delete(f"{folder}/{name}")
    return PrunedDay(day, files=len(held), bytes=sum(present[name] for name in held))


def _reason_to_keep(store: Store, day: date, rows: list[RawRow]) -> str | None:
    statuses = Counter(row.status for row in rows)
    if statuses["outage"]:
        return f"{counted(statuses['outage'], 'frame')} must still be fetched"
    verification, index = verify_shard(store, day)
    if verification.damages:
        damage = verification.damages[0]
        return f"{store.locate(damage.path)}: {damage.reason}"
    if index is None:
        return "there is no shard"
    left = frames_not_packed(StoredDay(store, day), rows, index)
    if left:
        return (
            f"the shard lacks {counted(len(left), 'frame')} (first: {left[0].channel} at "
            f"{left[0].slot:%H:%M})"
        )
    return None
